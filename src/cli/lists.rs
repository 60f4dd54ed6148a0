//! Vendors' lists of prefixes: read from disk and network, for `resolve` and `generate --resolve`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Run, Stop, plain};
use crate::diagnostic::{Code, Diagnostic};
use crate::lock::ranges::Readings;
use crate::lock::{Lock, Wanted};
use crate::policy::{Policy, Range};
use crate::ranges::fetch::Https;
use crate::ranges::{self, BYTES_MOST, Fetch as _, Place};
use crate::text::Id;

/// Where the lists that are files lie, by name.
pub(super) type Places = BTreeMap<Id, PathBuf>;

/// Adds the lists of one site, whose profile lies in a folder. A name stands for one source in all sites of a lock.
pub(super) fn gather(
    run: &mut Run,
    policies: &[Policy],
    policy: &Policy,
    folder: &Path,
    places: &mut Places,
) -> Result<(), Stop> {
    for (id, range) in &policy.ranges {
        let place = match &range.source.from {
            Place::File(path) => Some(folder.join(path.as_str())),
            Place::Url(_) => None,
        };
        let first = policies.iter().find_map(|policy| Some((policy, policy.ranges.get(id)?)));
        if let Some((other, first)) = first
            && (first.source != range.source || places.get(id) != place.as_ref())
        {
            let message = format!("the sites `{}` and `{}` mean different lists by `{id}`", other.site, policy.site);
            let diagnostic = Diagnostic::new(Code::BadRange, message)
                .at(range.span.clone(), "this one")
                .at(first.span.clone(), "the other");
            return run.stop(diagnostic.help("a lock holds a list by its name: give the two different names"));
        }
        places.extend(place.map(|place| (id.clone(), place)));
    }
    Ok(())
}

/// Reads every list that is wanted. Nothing here fails: what cannot be read says why.
pub(super) fn read(wanted: &Wanted, places: &Places) -> Readings {
    let https = Https::default();
    let reading = |(id, range): (&Id, &Range)| {
        let bytes = match &range.source.from {
            Place::File(_) => match places.get(id) {
                Some(path) => file(path),
                None => Err("its file is not known".to_owned()),
            },
            Place::Url(url) => https.fetch(url.as_str()),
        };
        (id.clone(), bytes.and_then(|bytes| ranges::read(&bytes, &range.source.paths)))
    };
    wanted.ranges.iter().map(reading).collect()
}

/// A whole file, of at most as many bytes as a list may have.
fn file(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: &std::io::Error| format!("cannot read {}: {}", path.display(), plain(error));
    // A pipe would be waited for without end.
    if !std::fs::metadata(path).map_err(|e| unreadable(&e))?.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let mut bytes = Vec::new();
    let most = BYTES_MOST as u64 + 1;
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(|e| unreadable(&e))?;
    Ok(bytes)
}

/// Says which lists a lock lacks or has otherwise than the profile says.
pub(super) fn find(run: &mut Run, wanted: &Wanted, lock: &Lock) {
    for (id, range) in &wanted.ranges {
        let (code, message) = match lock.ranges.get(id) {
            Some(entry) if entry.source == range.source => continue,
            Some(_) => (Code::LockDiffers, format!("the lock has the list `{id}` from another source")),
            None => (Code::NotInLock, format!("the lock lacks the list `{id}`")),
        };
        run.findings.push(Diagnostic::new(code, message).at(range.span.clone(), "").help("run `outgate resolve`"));
    }
}
