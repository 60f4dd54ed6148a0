//! One question out, one message in: what is sent, and whether what came is an answer to it.

use std::cell::LazyCell;
use std::net::IpAddr;

use hickory_resolver::proto::op::{
    DnsRequest, DnsRequestOptions, DnsResponse, Message, MessageType, Query, ResponseCode,
};
use hickory_resolver::proto::rr::{DNSClass, RecordType as Kind};
use rand::Rng;

use super::labels::Labels;
use crate::resolve::Failure;

/// Length of a message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// Flags of a message: QR, AA, TC, RD, AD and CD.
const RESPONSE: u16 = 1 << 15;
const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSE: u16 = 1 << 8;
const AUTHENTIC: u16 = 1 << 5;
const UNCHECKED: u16 = 1 << 4;
/// How a record says that it is of the name that was asked for: a pointer to the question.
const ASKED: [u8; 2] = [0xC0, 12];
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
    pub(super) name: Labels,
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
    Message(Answer),
    /// The right id, but no message, or the case of the letters lost: forged perhaps.
    Garbled,
    /// The time is over.
    Silence,
}

/// What a message says, as far as anybody here wants to know.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    /// It was cut: a part of an answer (TC).
    pub(super) truncated: bool,
    /// Whoever sent it validated it (AD).
    pub(super) authentic: bool,
    /// It only says whom else to ask.
    referral: bool,
    /// Its authority section has an SOA.
    pub(super) soa: bool,
    /// It says why it is a failure, and that it was DNSSEC.
    bogus: bool,
    /// Of its answers those that could be of use.
    pub(super) records: Vec<Record>,
}

/// A record of a message.
#[derive(Debug)]
pub(super) struct Record {
    /// Whose it is; nothing for the name that was asked for.
    pub(super) owner: Option<Labels>,
    pub(super) data: Data,
}

/// What a record holds.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Of A and AAAA: an address, and its time to live in seconds.
    Address(IpAddr, u32),
    /// Of CNAME: where it leads, and how long that may be believed.
    Alias(Labels, u32),
    /// Of SRV: a target and its port.
    Target(Labels, u16),
}

impl Data {
    /// The type of record that holds it.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Address(IpAddr::V4(_), _) => Kind::A,
            Self::Address(IpAddr::V6(_), _) => Kind::AAAA,
            Self::Alias(..) => Kind::CNAME,
            Self::Target(..) => Kind::SRV,
        }
    }
}

impl Question {
    /// Whether anybody is there: the root's own name servers.
    pub(super) fn probe() -> Self {
        Self { name: Labels::root(), kind: Kind::NS, edns: true, unchecked: false }
    }

    /// As a message: recursion desired, validation reported (AD; RFC 6840, 5.7), letters in random case
    /// (draft-vixie-dnsext-dns0x20).
    pub(super) fn request(&self) -> DnsRequest {
        let mut options = DnsRequestOptions::default();
        options.use_edns = self.edns;
        options.case_randomization = true;
        let mut request = DnsRequest::from_query(Query::query(self.name.to_name(), self.kind), options);
        request.metadata.authentic_data = true;
        request.metadata.checking_disabled = self.unchecked;
        request
    }

    /// The bytes of such a message, into `bytes`; the id is for the socket to choose. By hand, for of all that is done
    /// for a question this was the dearest; a test holds it to hickory's.
    pub(super) fn put(&self, bytes: &mut Vec<u8>, random: &mut impl Rng) {
        bytes.clear();
        let flags = RECURSE | AUTHENTIC | if self.unchecked { UNCHECKED } else { 0 };
        let [f0, f1] = flags.to_be_bytes();
        bytes.extend_from_slice(&[0, 0, f0, f1, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns)]);
        bytes.extend_from_slice(self.name.as_bytes());
        for letters in bytes.get_mut(HEADER..).unwrap_or_default().chunks_mut(64) {
            let bits = random.next_u64();
            for (at, letter) in letters.iter_mut().enumerate() {
                // Without a branch: what chance decides nobody foresees, the processor neither. The length of a label is
                // no letter.
                let other = u8::from(bits >> at & 1 == 1) & u8::from(letter.is_ascii_alphabetic());
                *letter ^= other << 5;
            }
        }
        let [[k0, k1], [c0, c1]] = [u16::from(self.kind), u16::from(DNSClass::IN)].map(u16::to_be_bytes);
        bytes.extend_from_slice(&[k0, k1, c0, c1]);
        if self.edns {
            let [[o0, o1], [p0, p1]] = [u16::from(Kind::OPT), PAYLOAD].map(u16::to_be_bytes);
            bytes.extend_from_slice(&[0, o0, o1, p0, p1, 0, 0, 0, 0, 0, 0]);
        }
    }

    /// Whether a message that came over a stream is for this question, and what it says.
    pub(super) fn judge(&self, response: DnsResponse) -> Word {
        let (message, bytes) = response.into_parts();
        let name = self.name.to_name();
        let same = |asked: &Query| asked.name == name && asked.query_type == self.kind;
        match message.queries.as_slice() {
            [asked] if same(asked) && message.message_type == MessageType::Response => {
                Answer::read(&bytes, HEADER + question_length(&bytes)).map_or(Word::Garbled, Word::Message)
            }
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
    let end = HEADER + question_length(sent);
    // Nearly all: one question, letter for letter as it was sent.
    let answers = word(came, 2).is_some_and(|flags| flags & RESPONSE != 0) && word(came, 4) == Some(1);
    if answers && came.get(HEADER..end) == sent.get(HEADER..end) {
        return Some(Answer::read(came, end).map_or(Word::Garbled, Word::Message));
    }
    let Ok(message) = Message::from_vec(came) else { return Some(Word::Garbled) };
    if message.message_type != MessageType::Response {
        return Some(Word::Garbled);
    }
    // Some servers from before EDNS do not even say what they did not understand.
    if message.queries.is_empty() && message.response_code == ResponseCode::FormErr {
        return Answer::read(came, HEADER).map(Word::Message);
    }
    let asked = Message::from_vec(sent).ok()?;
    (asked.queries == message.queries).then_some(Word::Garbled)
}

/// How long the question of a message is, whose name stands there in full: name, type and class.
fn question_length(bytes: &[u8]) -> usize {
    let name = bytes.get(HEADER..).unwrap_or_default();
    let mut at = 0;
    while let Some(&length) = name.get(at).filter(|length| **length > 0) {
        at += 1 + usize::from(length);
    }
    at + 1 + 4
}

/// The two bytes at a place.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|word| u16::from_be_bytes(*word))
}

/// The beginning of a record: whose it is and what.
struct Head {
    /// Where the name stands that it is of; nothing for a pointer to the question.
    owner: Option<usize>,
    kind: Kind,
    class: u16,
    ttl: u32,
    /// Where its data begins, and how much that is.
    begin: usize,
    length: usize,
}

impl Head {
    /// Reads one, and goes on behind its data.
    fn read(came: &[u8], at: &mut usize) -> Option<Self> {
        let (owner, behind) = if came.get(*at..)?.starts_with(&ASKED) {
            (None, *at + ASKED.len())
        } else {
            (Some(*at), Labels::end(came, *at)?)
        };
        let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *came.get(behind..)?.first_chunk()?;
        let (begin, length) = (behind + 10, usize::from(u16::from_be_bytes([l0, l1])));
        *at = Some(begin + length).filter(|end| *end <= came.len())?;
        let kind = Kind::from(u16::from_be_bytes([k0, k1]));
        let (class, ttl) = (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([t0, t1, t2, t3]));
        Some(Self { owner, kind, class, ttl, begin, length })
    }

    /// Its data, as bytes.
    fn bytes<'a>(&self, came: &'a [u8]) -> &'a [u8] {
        came.get(self.begin..self.begin + self.length).unwrap_or_default()
    }

    /// What it holds, if it is of use here. Outer nothing: it is no record.
    fn data(&self, came: &[u8]) -> Option<Option<Data>> {
        if self.class != u16::from(DNSClass::IN) {
            return Some(None);
        }
        let bytes = self.bytes(came);
        let name = |skip: usize| name_at(came, self.begin + skip, self.begin + self.length);
        let ttl = believed(self.ttl);
        Some(Some(match self.kind {
            Kind::A => Data::Address(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?), ttl),
            Kind::AAAA => Data::Address(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?), ttl),
            Kind::CNAME => Data::Alias(name(0)?, ttl),
            // Behind priority and weight.
            Kind::SRV => Data::Target(name(6)?, word(bytes, 4)?),
            _ => return Some(None),
        }))
    }
}

/// A name that reaches from one place to another.
fn name_at(came: &[u8], begin: usize, end: usize) -> Option<Labels> {
    Labels::end(came, begin).filter(|behind| *behind == end).and_then(|_| Labels::read(came, begin))
}

impl Answer {
    /// Reads what stands behind the question; nothing when it is no message. hickory's reader makes a dozen lists of
    /// every message, and that was most of what an answer cost.
    fn read(came: &[u8], behind: usize) -> Option<Self> {
        let flags = word(came, 2)?;
        let [asked, answers, authorities, additionals] =
            [word(came, 4)?, word(came, 6)?, word(came, 8)?, word(came, 10)?];
        let mut at = behind;
        // A server need not point; written in full, in whatever case, the name is the same.
        let name = LazyCell::new(|| name_at(came, HEADER, behind - 4).filter(|_| asked == 1));
        let is_asked = |owner: &Labels| name.as_ref() == Some(owner);
        let mut records = Vec::with_capacity(usize::from(answers).min(16));
        for _ in 0..answers {
            let head = Head::read(came, &mut at)?;
            if head.kind == Kind::OPT {
                return None;
            }
            let Some(data) = head.data(came)? else { continue };
            let owner = head.owner.and_then(|at| Labels::read(came, at)).filter(|owner| !is_asked(owner));
            records.push(Record { owner, data });
        }
        let (mut soa, mut servers) = (false, false);
        for _ in 0..authorities {
            let head = Head::read(came, &mut at)?;
            soa |= head.kind == Kind::SOA;
            servers |= head.kind == Kind::NS;
        }
        let mut edns = None;
        for _ in 0..additionals {
            let head = Head::read(came, &mut at)?;
            if head.kind == Kind::OPT && edns.replace(head).is_some() {
                return None;
            }
        }
        // The upper bits of the code stand where others have their time to live (RFC 6891, 6.1.3).
        let [high, ..] = edns.as_ref().map_or(0, |head| head.ttl).to_be_bytes();
        Some(Self {
            code: ResponseCode::from(high, flags.to_be_bytes()[1]),
            truncated: flags & TRUNCATED != 0,
            authentic: flags & AUTHENTIC != 0,
            // Taken for "no addresses", a server that does not recurse would empty a lock.
            referral: answers == 0 && flags & AUTHORITATIVE == 0 && servers && !soa,
            soa,
            bogus: edns.is_some_and(|head| is_bogus(head.bytes(came))),
            records,
        })
    }

    /// Why it is no answer, so that somebody else is asked; nothing when it is one.
    pub(super) fn fault(&self) -> Option<Failure> {
        match self.code {
            ResponseCode::NoError if self.referral => Some(Failure::Refused),
            ResponseCode::NoError | ResponseCode::NXDomain => None,
            ResponseCode::Refused => Some(Failure::Refused),
            ResponseCode::FormErr => Some(Failure::Malformed),
            ResponseCode::ServFail if self.bogus => Some(Failure::Bogus),
            _ => Some(Failure::ServFail),
        }
    }
}

/// Whether EDNS options say why a server failed, and that it was DNSSEC.
fn is_bogus(mut options: &[u8]) -> bool {
    while let (Some(code), Some(length)) = (word(options, 0), word(options, 2)) {
        let data = options.get(4..4 + usize::from(length)).unwrap_or_default();
        if code == EDE && word(data, 0).is_some_and(|why| BOGUS.contains(&why)) {
            return true;
        }
        options = options.get(4 + usize::from(length)..).unwrap_or_default();
    }
    false
}

/// A TTL, in seconds: one with the top bit set is 0 (RFC 2181, 8).
fn believed(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_by_hand_are_those_of_the_library() {
        let mut random = rand::rng();
        for name in [".", "a.b", "Some-Long-Name.example.org", &format!("{}.example.org", "x".repeat(63))] {
            for (kind, edns, unchecked) in [(Kind::A, true, false), (Kind::AAAA, false, false), (Kind::SRV, true, true)]
            {
                let name = if name == "." { Labels::root() } else { Labels::of(name).unwrap() };
                let question = Question { name: name.clone(), kind, edns, unchecked };
                let mut bytes = Vec::new();
                question.put(&mut bytes, &mut random);
                set_id(&mut bytes, 7);
                let mut whole = question.request().into_parts().0;
                whole.metadata.id = 7;
                assert_eq!(Message::from_vec(&bytes).unwrap(), whole, "{name:?}");
                assert_eq!(bytes.len(), whole.to_vec().unwrap().len(), "{name:?}");
                assert_eq!(HEADER + question_length(&bytes), bytes.len() - if edns { 11 } else { 0 });
            }
        }
    }

    #[test]
    fn letters_are_in_random_case() {
        let name = Labels::of("abcdefghijklmnopqrstuvwxyz.example.org").unwrap();
        let question = Question { name, kind: Kind::A, edns: true, unchecked: false };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        question.put(&mut first, &mut rand::rng());
        question.put(&mut second, &mut rand::rng());
        assert_ne!(first, second);
        assert!(matches!(read(&first, &reply(&first)), Some(Word::Message(_))));
        assert!(matches!(read(&first, &reply(&second)), Some(Word::Garbled)));
    }

    #[test]
    fn what_a_message_says_is_what_the_library_reads() {
        use hickory_resolver::proto::op::Edns;
        use hickory_resolver::proto::rr::rdata::opt::EdnsOption;
        use hickory_resolver::proto::rr::rdata::{A, CNAME, NS, SRV};
        use hickory_resolver::proto::rr::{Name, RData, Record as Full};

        let name = |text: &str| Name::from_ascii(text).unwrap();
        let labels = |text: &str| Labels::of(text).unwrap();
        let question = Question { name: labels("a.example.org"), kind: Kind::A, edns: true, unchecked: false };
        let mut sent = Vec::new();
        question.put(&mut sent, &mut rand::rng());
        let mut message = Message::from_vec(&sent).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = ResponseCode::ServFail;
        message.metadata.authentic_data = true;
        let record = |owner: &str, data| Full::from_rdata(name(owner), 60, data);
        message.answers = vec![
            record("a.example.org.", RData::CNAME(CNAME(name("b.example.org.")))),
            record("b.example.org.", RData::A(A::new(192, 0, 2, 1))),
            record("b.example.org.", RData::SRV(SRV::new(1, 2, 443, name("c.example.org.")))),
            record("b.example.org.", RData::NS(NS(name("d.example.org.")))),
        ];
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(EDE, vec![0, 6]));
        message.edns = Some(edns);
        let came = message.to_vec().unwrap();

        let Some(Word::Message(answer)) = read(&sent, &came) else { panic!("no answer") };
        assert!(answer.authentic && !answer.truncated && !answer.soa && answer.bogus);
        assert_eq!(answer.fault(), Some(Failure::Bogus));
        let b = Some(labels("b.example.org"));
        let [alias, address, target] = answer.records.as_slice() else { panic!("{:?}", answer.records) };
        assert!(alias.owner.is_none() && matches!(&alias.data, Data::Alias(to, 60) if Some(to) == b.as_ref()));
        assert!(
            address.owner == b && matches!(address.data, Data::Address(ip, 60) if ip == IpAddr::from([192, 0, 2, 1]))
        );
        assert!(matches!(&target.data, Data::Target(to, 443) if *to == labels("c.example.org")));

        // Cut anywhere it is no message.
        for end in HEADER..came.len() {
            assert!(!matches!(read(&sent, &came[..end]), Some(Word::Message(_))), "{end}");
        }
        // The name in full, in another case, is the name that was asked for; another name is not.
        for (owner, own) in [(b"\x01A\x07eXample\x03ORG\0", true), (b"\x01b\x07eXample\x03ORG\0", false)] {
            let mut came = sent.clone();
            came.truncate(HEADER + question_length(&sent));
            came[2] |= 0x80;
            came[7] = 1;
            came[11] = 0;
            came.extend(owner);
            came.extend([0, 1, 0, 1, 0xFF, 0, 0, 0, 0, 4, 192, 0, 2, 1]);
            let Some(Word::Message(answer)) = read(&sent, &came) else { panic!("no answer") };
            assert_eq!(answer.records[0].owner.is_none(), own);
            assert!(matches!(answer.records[0].data, Data::Address(_, 0)), "an impossible time to live");
        }
    }

    fn reply(question: &[u8]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] |= 0x80;
        bytes
    }
}
