//! The catalog this program was built with. A test compares the list with the folder.

use crate::catalog::Files;
use crate::source::Sources;

/// The files beside the subjects, each with its path.
const BASE: [(&str, &str); 5] = [
    ("catalog/releases.yaml", include_str!("../../catalog/releases.yaml")),
    ("catalog/sources.yaml", include_str!("../../catalog/sources.yaml")),
    ("catalog/features.yaml", include_str!("../../catalog/features.yaml")),
    ("catalog/providers.yaml", include_str!("../../catalog/providers.yaml")),
    ("catalog/pages.yaml", include_str!("../../catalog/pages.yaml")),
];

/// One file a subject, by name.
pub const CALLOUTS: &[(&str, &str)] = &[
    ("catalog/callouts/alerts.yaml", include_str!("../../catalog/callouts/alerts.yaml")),
    ("catalog/callouts/apps.yaml", include_str!("../../catalog/callouts/apps.yaml")),
    ("catalog/callouts/certificates.yaml", include_str!("../../catalog/callouts/certificates.yaml")),
    ("catalog/callouts/charts.yaml", include_str!("../../catalog/callouts/charts.yaml")),
    ("catalog/callouts/cloud.yaml", include_str!("../../catalog/callouts/cloud.yaml")),
    ("catalog/callouts/connect.yaml", include_str!("../../catalog/callouts/connect.yaml")),
    ("catalog/callouts/containers.yaml", include_str!("../../catalog/callouts/containers.yaml")),
    ("catalog/callouts/debug.yaml", include_str!("../../catalog/callouts/debug.yaml")),
    ("catalog/callouts/directory.yaml", include_str!("../../catalog/callouts/directory.yaml")),
    ("catalog/callouts/downloads.yaml", include_str!("../../catalog/callouts/downloads.yaml")),
    ("catalog/callouts/hardware.yaml", include_str!("../../catalog/callouts/hardware.yaml")),
    ("catalog/callouts/jails.yaml", include_str!("../../catalog/callouts/jails.yaml")),
    ("catalog/callouts/logging.yaml", include_str!("../../catalog/callouts/logging.yaml")),
    ("catalog/callouts/mail.yaml", include_str!("../../catalog/callouts/mail.yaml")),
    ("catalog/callouts/name-service.yaml", include_str!("../../catalog/callouts/name-service.yaml")),
    ("catalog/callouts/not-callouts.yaml", include_str!("../../catalog/callouts/not-callouts.yaml")),
    ("catalog/callouts/peers.yaml", include_str!("../../catalog/callouts/peers.yaml")),
    ("catalog/callouts/plugins.yaml", include_str!("../../catalog/callouts/plugins.yaml")),
    ("catalog/callouts/remote-assist.yaml", include_str!("../../catalog/callouts/remote-assist.yaml")),
    ("catalog/callouts/support.yaml", include_str!("../../catalog/callouts/support.yaml")),
    ("catalog/callouts/telemetry.yaml", include_str!("../../catalog/callouts/telemetry.yaml")),
    ("catalog/callouts/time.yaml", include_str!("../../catalog/callouts/time.yaml")),
    ("catalog/callouts/updates.yaml", include_str!("../../catalog/callouts/updates.yaml")),
    ("catalog/callouts/web-ui.yaml", include_str!("../../catalog/callouts/web-ui.yaml")),
];

/// Takes the embedded texts in.
pub fn files(sources: &mut Sources) -> Files {
    let [releases, documents, features, providers, pages] = BASE.map(|(path, text)| sources.add(path, text));
    let callouts = CALLOUTS.iter().map(|(path, text)| sources.add(*path, *text)).collect();
    Files { releases, sources: documents, features, providers: Some(providers), pages: Some(pages), callouts }
}

/// Each file as it is, by its path below the folder of a catalog.
pub fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    let files = BASE.iter().chain(CALLOUTS);
    files.map(|(path, text)| (path.strip_prefix("catalog/").unwrap_or(path), *text))
}
