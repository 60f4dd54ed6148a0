//! One question out, one message in: what is sent, and whether what came is an answer to it.

use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_resolver::proto::rr::{DNSClass, Name, RecordType as Kind};
use rand::Rng;

use crate::resolve::Failure;

/// Length of a message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// Flags of a question: RD, AD and CD.
const RECURSE: u16 = 1 << 8;
const AUTHENTIC: u16 = 1 << 5;
const UNCHECKED: u16 = 1 << 4;
/// Longest datagram we ask for (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// Extended DNS Errors (RFC 8914).
const EDE: u16 = 15;
/// Those that say that DNSSEC found the name forged or broken: bogus, expired, not yet valid, DNSKEY missing, RRSIGs
/// missing, no zone key bit, NSEC missing. Not those of what a resolver cannot judge (1, 2, 5).
const BOGUS: std::ops::RangeInclusive<u16> = 6..=12;

/// One question, and how it is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: Kind,
    /// With EDNS: all servers but those from before it.
    pub(super) edns: bool,
    /// Not to be validated (CD). What is answered so is never used.
    pub(super) unchecked: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Word {
    /// An answer to the question.
    Message(Box<Message>),
    /// The right id, but no message, or the case of the letters lost: forged perhaps.
    Garbled,
    /// The time is over.
    Silence,
}

impl Question {
    /// Whether anybody is there: the root's own name servers.
    pub(super) fn probe() -> Self {
        Self { name: Name::root(), kind: Kind::NS, edns: true, unchecked: false }
    }

    /// As a message: recursion desired, validation reported (AD; RFC 6840, 5.7), letters in random case
    /// (draft-vixie-dnsext-dns0x20).
    pub(super) fn request(&self) -> DnsRequest {
        let mut options = DnsRequestOptions::default();
        options.use_edns = self.edns;
        options.case_randomization = true;
        let mut request = DnsRequest::from_query(Query::query(self.name.clone(), self.kind), options);
        request.metadata.authentic_data = true;
        request.metadata.checking_disabled = self.unchecked;
        request
    }

    /// The bytes of such a message, into `bytes`; the id is for the socket to choose. By hand, for of all that is done
    /// for a question this was the dearest; a test holds it to hickory's.
    pub(super) fn put(&self, bytes: &mut Vec<u8>, random: &mut impl Rng) {
        bytes.clear();
        let flags = RECURSE | AUTHENTIC | if self.unchecked { UNCHECKED } else { 0 };
        for word in [0, flags, 1, 0, 0, u16::from(self.edns)] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let (mut bits, mut left) = (0, 0);
        for label in self.name.iter() {
            bytes.push(u8::try_from(label.len()).unwrap_or(0));
            for &letter in label {
                if left == 0 {
                    (bits, left) = (random.next_u64(), 64);
                }
                bytes.push(if bits & 1 == 1 && letter.is_ascii_alphabetic() { letter ^ 0x20 } else { letter });
                bits >>= 1;
                left -= 1;
            }
        }
        bytes.push(0);
        bytes.extend_from_slice(&u16::from(self.kind).to_be_bytes());
        bytes.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
        if self.edns {
            bytes.push(0);
            for word in [u16::from(Kind::OPT), PAYLOAD, 0, 0, 0] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
        }
    }

    /// Whether a message that came over a stream is for this question.
    pub(super) fn judge(&self, message: Message) -> Word {
        let same = |asked: &Query| asked.name == self.name && asked.query_type == self.kind;
        match message.queries.as_slice() {
            [asked] if same(asked) && message.message_type == MessageType::Response => Word::Message(Box::new(message)),
            _ => Word::Garbled,
        }
    }
}

/// Puts an id into a message.
pub(super) fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// The id of a message.
pub(super) fn id_of(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk::<2>().map(|id| u16::from_be_bytes(*id))
}

/// A datagram that has the id of a question: what it says to it. `None` when it is about something else, and the
/// answer may still come.
pub(super) fn read(sent: &[u8], came: &[u8]) -> Option<Word> {
    let Ok(message) = Message::from_vec(came) else { return Some(Word::Garbled) };
    if message.message_type != MessageType::Response {
        return Some(Word::Garbled);
    }
    let end = HEADER + question_length(sent);
    // Nearly all: one question, letter for letter as it was sent.
    if message.queries.len() == 1 && came.get(HEADER..end) == sent.get(HEADER..end) {
        return Some(Word::Message(Box::new(message)));
    }
    // Some servers from before EDNS do not even say what they did not understand.
    if message.queries.is_empty() && message.response_code == ResponseCode::FormErr {
        return Some(Word::Message(Box::new(message)));
    }
    let asked = Message::from_vec(sent).ok()?;
    (asked.queries == message.queries).then_some(Word::Garbled)
}

/// How long the question of a message of ours is: name, type and class.
fn question_length(sent: &[u8]) -> usize {
    let name = sent.get(HEADER..).unwrap_or_default();
    let mut at = 0;
    while let Some(&length) = name.get(at).filter(|length| **length > 0) {
        at += 1 + usize::from(length);
    }
    at + 1 + 4
}

/// Why a message is no answer, so that somebody else is asked; nothing when it is one.
pub(super) fn no_answer(message: &Message) -> Option<Failure> {
    match message.response_code {
        ResponseCode::NoError if is_referral(message) => Some(Failure::Refused),
        ResponseCode::NoError | ResponseCode::NXDomain => None,
        ResponseCode::Refused => Some(Failure::Refused),
        ResponseCode::FormErr => Some(Failure::Malformed),
        ResponseCode::ServFail if is_bogus(message) => Some(Failure::Bogus),
        _ => Some(Failure::ServFail),
    }
}

/// Whether the server only says whom else to ask. Taken for "no addresses", a server that does not recurse would
/// empty a lock.
fn is_referral(message: &Message) -> bool {
    let has = |kind| message.authorities.iter().any(|record| record.record_type() == kind);
    message.answers.is_empty() && !message.authoritative && has(Kind::NS) && !has(Kind::SOA)
}

/// Whether the server says why it failed, and that it was DNSSEC.
fn is_bogus(message: &Message) -> bool {
    let options = message.edns.as_ref().map(|edns| edns.options().get_all(EdnsCode::Unknown(EDE))).unwrap_or_default();
    options.into_iter().any(|option| match option {
        EdnsOption::Unknown(_, data) => id_of(data).is_some_and(|code| BOGUS.contains(&code)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_by_hand_are_those_of_the_library() {
        let mut random = rand::rng();
        for name in [".", "a.b.", "Some-Long-Name.example.org.", &format!("{}.example.org.", "x".repeat(63))] {
            for (kind, edns, unchecked) in [(Kind::A, true, false), (Kind::AAAA, false, false), (Kind::SRV, true, true)]
            {
                let question = Question { name: Name::from_ascii(name).unwrap(), kind, edns, unchecked };
                let mut bytes = Vec::new();
                question.put(&mut bytes, &mut random);
                set_id(&mut bytes, 7);
                let mut whole = question.request().into_parts().0;
                whole.metadata.id = 7;
                assert_eq!(Message::from_vec(&bytes).unwrap(), whole, "{name}");
                assert_eq!(bytes.len(), whole.to_vec().unwrap().len(), "{name}");
                assert_eq!(HEADER + question_length(&bytes), bytes.len() - if edns { 11 } else { 0 });
            }
        }
    }

    #[test]
    fn letters_are_in_random_case() {
        let name = Name::from_ascii("abcdefghijklmnopqrstuvwxyz.example.org.").unwrap();
        let question = Question { name, kind: Kind::A, edns: true, unchecked: false };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        question.put(&mut first, &mut rand::rng());
        question.put(&mut second, &mut rand::rng());
        assert_ne!(first, second);
        assert!(matches!(read(&first, &reply(&first)), Some(Word::Message(_))));
        assert!(matches!(read(&first, &reply(&second)), Some(Word::Garbled)));
    }

    fn reply(question: &[u8]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] |= 0x80;
        bytes
    }
}
