//! A bar on standard error while names are asked; the only door of `indicatif`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Calls `work` with a callback that draws (done, total), where somebody watches. Nothing is drawn in a pipe.
pub(super) fn with_bar<T>(label: &'static str, work: impl FnOnce(&dyn Fn(usize, usize)) -> T) -> T {
    if !crate::report::terminal::is_watched() {
        return work(&|_, _| {});
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(label);
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = work(&|done, total| {
        bar.set_length(u64::try_from(total).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    });
    bar.finish_and_clear();
    result
}
