//! A name as it stands in a message. hickory's is copied, compared and turned into text label by label, a letter at a
//! time; with three or four names to an answer that showed.

use std::fmt;
use std::sync::Arc;

use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::serialize::binary::{BinDecodable as _, BinDecoder};

use crate::host::Host;
use crate::resolve::Failure;

/// Longest name, with the length of each label and the last zero (RFC 1035, 2.3.4).
const NAME_MAX: usize = 255;
const LABEL_MAX: usize = 63;

/// Each label behind its length, in lower case, and a zero: one name has one spelling. It is shared, for A and AAAA are
/// asked of the same.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Labels(Arc<[u8]>);

impl Labels {
    pub(super) fn root() -> Self {
        Self(Arc::from([0]))
    }

    /// Of a text without escapes and without its last dot; nothing when it is longer than a name can be.
    pub(super) fn of(text: &str) -> Option<Self> {
        let (mut bytes, mut at) = ([0; NAME_MAX], 0);
        for label in text.as_bytes().split(|letter| *letter == b'.') {
            let length = Some(label.len()).filter(|length| (1..=LABEL_MAX).contains(length))?;
            *bytes.get_mut(at)? = u8::try_from(length).ok()?;
            bytes.get_mut(at + 1..=at + length)?.copy_from_slice(label);
            at += 1 + length;
        }
        let name = bytes.get_mut(..=at)?;
        name.make_ascii_lowercase();
        Some(Self(Arc::from(&*name)))
    }

    /// The name that begins at a place of a message, with what it points to.
    pub(super) fn read(came: &[u8], begin: usize) -> Option<Self> {
        let (mut bytes, mut length) = ([0; NAME_MAX], 0);
        walk(came, begin, |label| {
            bytes.get_mut(length..length + label.len())?.copy_from_slice(label);
            length += label.len();
            Some(())
        })?;
        let name = bytes.get_mut(..length)?;
        // A length is below 64 and no letter.
        name.make_ascii_lowercase();
        Some(Self(Arc::from(&*name)))
    }

    /// Where the name ends that begins at a place of a message, apart from what it points to; nothing when it is none.
    pub(super) fn end(came: &[u8], begin: usize) -> Option<usize> {
        let mut length = 0;
        walk(came, begin, |label| {
            length += label.len();
            (length <= NAME_MAX).then_some(())
        })
    }

    /// As it stands in a message.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_root(&self) -> bool {
        *self.0 == [0]
    }

    /// As hickory has it.
    pub(super) fn to_name(&self) -> Name {
        Name::read(&mut BinDecoder::new(&self.0)).unwrap_or_default()
    }

    /// As a host, if it can be the name of one.
    pub(super) fn to_host(&self) -> Result<Host, Failure> {
        let (mut text, mut rest) = (Vec::with_capacity(self.0.len()), &*self.0);
        while let Some((&length, behind)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let (label, next) = behind.split_at_checked(usize::from(length)).ok_or(Failure::Malformed)?;
            // Neither may a dot in a label pass for one between two.
            if !label.iter().all(|letter| letter.is_ascii_alphanumeric() || *letter == b'-') {
                return Err(Failure::Malformed);
            }
            if !text.is_empty() {
                text.push(b'.');
            }
            text.extend_from_slice(label);
            rest = next;
        }
        let text = std::str::from_utf8(&text).map_err(|_| Failure::Malformed)?;
        Host::parse(text).map_err(|_| Failure::Malformed)
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_name().fmt(f)
    }
}

/// Shows each label of a name, behind its length and with the last zero. Where the name ends, apart from what it points
/// to; nothing when it is none, or somebody has seen enough.
fn walk(came: &[u8], begin: usize, mut show: impl FnMut(&[u8]) -> Option<()>) -> Option<usize> {
    let (mut at, mut end) = (begin, None);
    // A pointer leads to what stands before all that was read so far, and what it leads to ends there: none is followed
    // forever.
    let (mut least, mut most) = (begin, came.len());
    while at < most {
        let length = *came.get(at)?;
        match length >> 6 {
            0 => {
                show(came.get(at..=at + usize::from(length))?)?;
                at += 1 + usize::from(length);
                if length == 0 {
                    return Some(end.unwrap_or(at));
                }
            }
            3 => {
                end = end.or(Some(at + 2));
                let to = u16::from_be_bytes([length & 0x3F, *came.get(at + 1)?]);
                at = Some(usize::from(to)).filter(|to| *to < least)?;
                (least, most) = (at, least);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_name_hickory_makes_of_it() {
        for text in ["a.b", "Some-Long-Name.example.org", "_http._tcp.example.org", &format!("{}.x", "y".repeat(63))] {
            let labels = Labels::of(text).unwrap();
            assert_eq!(labels.to_name(), Name::from_ascii(format!("{text}.")).unwrap());
            assert_eq!(Labels::read(labels.as_bytes(), 0), Some(labels.clone()));
            let host = labels.to_host().ok();
            assert_eq!(host, Host::parse(text).ok(), "{text}");
        }
        assert!(Labels::root().is_root() && Labels::root().to_name().is_root());
        for text in ["", "a..b", ".a", "a.", &format!("{}.x", "y".repeat(64)), &vec!["abcdefg"; 33].join(".")] {
            assert_eq!(Labels::of(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_none_whatever_it_looks_like() {
        for bytes in
            [&b"\x03a.b\x01c\0"[..], b"\x02a\xff\x01c\0", b"\x02a \x01c\0", b"\x02_a\x01c\0", b"\x01a\0", b"\0"]
        {
            assert_eq!(Labels::read(bytes, 0).unwrap().to_host(), Err(Failure::Malformed), "{bytes:?}");
        }
    }

    proptest::proptest! {
        /// hickory's reader is the judge: of what is a name, of which, and of where it ends.
        #[test]
        fn names_in_messages_are_those_hickory_reads(
            came in proptest::collection::vec(proptest::prop_oneof![0..4_u8, 60..66_u8, 190..194_u8, 0..=255_u8], 0..300),
            begin in 0..40_usize,
        ) {
            let mut decoder = BinDecoder::new(&came);
            let name = decoder.read_slice(begin).ok().and_then(|_| Name::read(&mut decoder).ok());
            proptest::prop_assert_eq!(Labels::end(&came, begin), name.as_ref().map(|_| decoder.index()));
            let labels = Labels::read(&came, begin);
            proptest::prop_assert_eq!(labels.map(|labels| labels.to_name()), name);
        }
    }
}
