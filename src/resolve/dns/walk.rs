//! One record type of one name: whom to ask next, until there is an answer or nobody is left. Knows no clock and no
//! socket: it is told what came back, and says what to ask.

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType as Kind;

use super::CHAIN_MAX;
use super::labels::Labels;
use super::message::{Answer, Data, Question, Record, Word};
use crate::resolve::{Failure, Link};

/// How a question is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A datagram, or the one stream a server over TLS or HTTPS has.
    Usual,
    /// TCP: when the answer was cut, or made no sense.
    Tcp,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Put the question to this server of the list.
    Ask(usize, Carrier),
    /// There is no more to ask.
    Done,
}

/// What one walk came to.
#[derive(Debug)]
pub(super) struct Walk {
    /// The name that is asked for now: the one that is wanted, or the last CNAME target.
    name: Labels,
    /// The names before it.
    earlier: Vec<Labels>,
    kind: Kind,
    /// Who said something that counts, by place in the list.
    pub(super) by: Vec<usize>,
    /// The CNAME targets, as far as they could be followed.
    pub(super) chain: Vec<Link>,
    /// The records of the type asked for, at the end of the chain; never none.
    pub(super) records: Result<Vec<Record>, Failure>,
    /// Every message that was used had the AD bit.
    authentic: bool,
    /// Which server of the list is asked, and the how manieth time the list is gone down.
    at: usize,
    pass: usize,
    stage: Stage,
    edns: bool,
    refusing: Vec<usize>,
    /// The first reason that is more than silence, and whose it is.
    reason: Option<(Failure, usize)>,
    /// There is no more to ask.
    over: bool,
}

/// What the question that is under way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Usual,
    /// Over TCP; what it is for when that fails too.
    Tcp(Failure),
    /// With CD set: whether SERVFAIL was DNSSEC's.
    Unchecked,
}

/// What a walk must know of the list it goes down.
pub(super) trait List {
    /// How many servers there are.
    fn len(&self) -> usize;
    /// Whether one is there at all.
    fn lives(&self, at: usize) -> bool;
    /// Whether one can be asked over TCP as well.
    fn has_tcp(&self, at: usize) -> bool;
    /// How many times to go down the list.
    fn passes(&self) -> usize;
}

impl Walk {
    pub(super) fn new(name: Labels, kind: Kind) -> Self {
        Self {
            name,
            earlier: Vec::new(),
            kind,
            by: Vec::new(),
            chain: Vec::new(),
            records: Err(Failure::Timeout),
            authentic: true,
            at: 0,
            pass: 0,
            stage: Stage::Usual,
            edns: true,
            refusing: Vec::new(),
            reason: None,
            over: false,
        }
    }

    /// Begins anew, with another name. There are lists that need not be made again.
    pub(super) fn renew(&mut self, name: Labels, kind: Kind) {
        let (mut by, mut chain) = (std::mem::take(&mut self.by), std::mem::take(&mut self.chain));
        by.clear();
        chain.clear();
        *self = Self { by, chain, ..Self::new(name, kind) };
    }

    /// The question to put now.
    pub(super) fn question(&self) -> Question {
        Question {
            name: self.name.clone(),
            kind: self.kind,
            edns: self.edns,
            unchecked: self.stage == Stage::Unchecked,
        }
    }

    /// The first step.
    pub(super) fn begin(&mut self, list: &impl List) -> Step {
        self.at = 0;
        self.pass = 0;
        self.stage = Stage::Usual;
        self.edns = true;
        self.refusing.clear();
        self.reason = None;
        self.whoever_is_next(list)
    }

    /// No more time: what is known of it is all there will be.
    pub(super) fn give_up(&mut self) {
        if !self.over {
            self.end(Failure::Timeout);
        }
    }

    /// Whether every message that was used was validated by whoever sent it.
    pub(super) fn is_authentic(&self) -> bool {
        self.authentic && !self.by.is_empty()
    }

    /// The next step, after what came to the last.
    pub(super) fn hear(&mut self, word: Word, list: &impl List) -> Step {
        match (self.stage, word) {
            (Stage::Unchecked, word) => {
                let answered = matches!(&word, Word::Message(answer) if answer.fault().is_none());
                self.end(if answered { Failure::Bogus } else { Failure::ServFail });
                Step::Done
            }
            (Stage::Usual, Word::Message(answer))
                if answer.code == ResponseCode::FormErr && self.edns && !answer.truncated =>
            {
                // What servers from before EDNS say to it (RFC 6891, 7).
                self.edns = false;
                Step::Ask(self.at, Carrier::Usual)
            }
            (_, Word::Message(answer)) if !answer.truncated => match answer.fault() {
                None => self.follow(answer, list),
                Some(failure) => self.next(failure, list),
            },
            // What UDP gave is a part at best, and a part of an answer is none.
            (Stage::Tcp(failure), _) => self.next(failure, list),
            (Stage::Usual, Word::Silence) => self.next(Failure::Timeout, list),
            (Stage::Usual, word) => {
                // Not the answer to what was asked, or the case of the letters lost: TCP is hard to forge.
                let failure = if matches!(word, Word::Garbled) { Failure::Malformed } else { Failure::Truncated };
                if !list.has_tcp(self.at) {
                    return self.next(failure, list);
                }
                self.stage = Stage::Tcp(failure);
                Step::Ask(self.at, Carrier::Tcp)
            }
        }
    }

    /// The next server of the list, after this one failed.
    fn next(&mut self, failure: Failure, list: &impl List) -> Step {
        if failure == Failure::Refused {
            self.refusing.push(self.at);
        }
        if failure != Failure::Timeout && self.reason.is_none() {
            self.reason = Some((failure, self.at));
        }
        // Somebody who validates found it forged. Asking on, until somebody is asked who does not, would believe it.
        if failure == Failure::Bogus {
            self.reason = Some((failure, self.at));
            self.end(failure);
            return Step::Done;
        }
        self.at += 1;
        self.whoever_is_next(list)
    }

    fn whoever_is_next(&mut self, list: &impl List) -> Step {
        self.stage = Stage::Usual;
        self.edns = true;
        while self.pass < list.passes().max(1) {
            while self.at < list.len() {
                if list.lives(self.at) && !self.refusing.contains(&self.at) {
                    return Step::Ask(self.at, Carrier::Usual);
                }
                self.at += 1;
            }
            self.at = 0;
            self.pass += 1;
        }
        match self.reason {
            Some((Failure::ServFail, at)) if list.lives(at) => {
                self.stage = Stage::Unchecked;
                Step::Ask(at, Carrier::Usual)
            }
            Some((failure, _)) => {
                self.end(failure);
                Step::Done
            }
            None => {
                self.end(Failure::Timeout);
                Step::Done
            }
        }
    }

    fn end(&mut self, failure: Failure) {
        self.over = true;
        let said = self.reason.map(|(_, at)| at).filter(|at| !self.by.contains(at));
        self.by.extend(said);
        // Silence at the end of the time does not unsay a reason.
        self.records = Err(match self.reason {
            Some((reason, _)) if failure == Failure::Timeout => reason,
            _ => failure,
        });
    }

    /// Follows the CNAMEs of an answer. Most servers answer with the whole chain; one that gives a step at a time is
    /// asked again.
    fn follow(&mut self, answer: Answer, list: &impl List) -> Step {
        self.reason = None;
        if !self.by.contains(&self.at) {
            self.by.push(self.at);
        }
        self.authentic &= answer.authentic;
        let before = self.earlier.len();
        // An SOA says the server looked at the end of the chain and found nothing (RFC 2308, 2.2). Without one it may
        // only have stopped half way; then the end is asked for by its own name.
        let final_word = answer.soa;
        self.records = match self.end_of(answer) {
            Ok(records) if records.is_empty() => {
                if !final_word && self.earlier.len() > before {
                    return self.begin(list);
                }
                Err(Failure::NoData)
            }
            other => other,
        };
        self.over = true;
        Step::Done
    }

    fn end_of(&mut self, mut answer: Answer) -> Result<Vec<Record>, Failure> {
        let moved = self.chain_of(&answer.records)?;
        if answer.code == ResponseCode::NXDomain {
            return Err(Failure::NxDomain);
        }
        answer.records.retain(|record| record.data.kind() == self.kind && self.owns(record, moved));
        Ok(answer.records)
    }

    /// Goes down the chain; whether there was one.
    fn chain_of(&mut self, records: &[Record]) -> Result<bool, Failure> {
        let mut moved = false;
        // Nearly always there is none.
        while records.iter().any(|record| record.data.kind() == Kind::CNAME) {
            let mut targets =
                records.iter().filter(|record| self.owns(record, moved)).filter_map(|record| match &record.data {
                    Data::Alias(target, ttl) => Some((target, *ttl)),
                    _ => None,
                });
            let Some((target, ttl)) = targets.next() else { break };
            // A name has one CNAME; of two, nobody can say which is meant.
            if targets.any(|(other, _)| other != target) {
                return Err(Failure::Malformed);
            }
            if self.name == *target || self.earlier.contains(target) || self.chain.len() == CHAIN_MAX {
                return Err(Failure::Loop);
            }
            drop(targets);
            self.chain.push(Link { host: target.to_host()?, ttl });
            self.earlier.push(std::mem::replace(&mut self.name, target.clone()));
            moved = true;
        }
        Ok(moved)
    }

    /// Whether a record is of the name that is at the end of the chain now; a message knows the name that was asked
    /// for without its letters. What else a message holds was not asked for and is not believed.
    fn owns(&self, record: &Record, moved: bool) -> bool {
        match &record.owner {
            None => !moved,
            Some(owner) => moved && *owner == self.name,
        }
    }
}
