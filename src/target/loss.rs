//! What a target's files do not say of the policy: named, told as findings, and written beside the files.

use serde::{Serialize, Serializer};

use super::File;
use crate::callout::{Endpoint, Origin};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::ruleset::{Action, Rule, Ruleset};
use crate::settings::Losses;
use crate::source::Span;
use crate::text::{Id, Short, short};

/// The file of a target's losses, in its folder. It is always there: that there are none is a fact too.
pub const PATH: &str = "losses.json";

const FORMAT_VERSION: u32 = 1;

/// A way in which a target falls short.
#[derive(Debug)]
pub struct Kind {
    /// Its name, which never changes its meaning.
    pub name: &'static str,
    /// The finding it is told by. Without one it is a limit: of every target of that sort, whatever the policy, or told
    /// elsewhere. A limit is written down and never refused.
    pub code: Option<Code>,
    /// Where all losses of the kind are one finding: what is said of them together.
    together: Option<&'static str>,
    /// What to do.
    help: &'static str,
}

/// Every kind there is.
pub const KINDS: &[&Kind] = &[
    &WILDCARD,
    &NO_ADDRESS,
    &DENIAL_WITHOUT_ADDRESS,
    &SERVICE_WITHOUT_HOSTS,
    &NOT_PROXIED,
    &BROWSER_UNSEEN,
    &SHARING_UNKNOWN,
    &LIST_LEFT_OUT,
    &PORTS_AND_CLIENTS,
    &IPV6_UNDENIED,
    &ADDRESS_AMONG_NAMES,
    &OTHER_ORIGIN,
    &DENIED_TO_ANOTHER,
    &NAME_BLOCKED_FOR_SOME,
    &DENIED_ADDRESS,
    &WILDCARD_WITH_ITS_NAME,
    &WILDCARD_UNBLOCKED,
    &ALIAS_OF_BLOCKED,
    &NOTHING_BLOCKED,
    &NOTHING_PINNED,
    &UNPINNED,
    &FAMILY_UNPINNED,
    &LEFT_TO_DNSMASQ,
    &NAME_BY_ADDRESS,
    &NO_CLIENTS,
];

/// A wildcard that no list of what can be looked up holds.
pub(super) const WILDCARD: Kind =
    Kind { name: "wildcard", code: Some(Code::Loss), together: None, help: "the squid target goes by name and can" };

/// An allowed name that has no address, or not in every family.
pub(super) const NO_ADDRESS: Kind = Kind { name: "no-address", code: Some(Code::NoAddress), together: None, help: "" };

/// A blocked name that has no address, so that no rule by address blocks it.
pub(super) const DENIAL_WITHOUT_ADDRESS: Kind = Kind {
    name: "denial-without-address",
    code: Some(Code::NoAddress),
    together: None,
    help: "a client that asks another name server may reach it: make the lock with one that does not block the name",
};

/// A service whose hosts nobody has named.
pub(super) const SERVICE_WITHOUT_HOSTS: Kind =
    Kind { name: "service-without-hosts", code: Some(Code::Loss), together: None, help: "run `outgate resolve`" };

/// Ports that a proxy does not carry.
pub(super) const NOT_PROXIED: Kind = Kind {
    name: "not-proxied",
    code: Some(Code::OutOfReach),
    together: Some("does not go through a proxy"),
    help: "let these out by a packet filter, or keep the servers on the clients' own segment",
};

/// A denial for the administrator's browser, on the appliance itself.
pub(super) const BROWSER_UNSEEN: Kind = Kind {
    name: "browser-unseen",
    code: Some(Code::OutOfReach),
    together: Some("on the appliance itself the administrator's browser is never seen"),
    help: "block these on the router between the administrator and the Internet",
};

/// Denials beside allows by name, and no answers by which to tell whether they meet.
pub(super) const SHARING_UNKNOWN: Kind = Kind {
    name: "sharing-unknown",
    code: Some(Code::OutOfReach),
    together: None,
    help: "run `outgate resolve`: what it finds is looked through each time the rules are made",
};

/// A vendor's list of prefixes, where the firewall looks names up itself.
pub(super) const LIST_LEFT_OUT: Kind =
    Kind { name: "list-left-out", code: Some(Code::OutOfReach), together: None, help: "" };

/// Ports and clients, which no list of addresses or names holds.
pub(super) const PORTS_AND_CLIENTS: Kind = Kind { name: "ports-and-clients", code: None, together: None, help: "" };

/// A denial of all IPv6 on an interface, where there are lists and no interfaces.
pub(super) const IPV6_UNDENIED: Kind = Kind {
    name: "ipv6-undenied",
    code: Some(Code::OutOfReach),
    together: None,
    help: "deny it there by hand, or name the clients' IPv6 addresses as well",
};

/// An address, where names alone are held.
pub(super) const ADDRESS_AMONG_NAMES: Kind =
    Kind { name: "address-among-names", code: Some(Code::Loss), together: None, help: "use `hold: both`" };

/// Rules of origins that the pods do not have.
pub(super) const OTHER_ORIGIN: Kind = Kind {
    name: "other-origin",
    code: Some(Code::OutOfReach),
    together: Some("rules of origins these pods do not have"),
    help: "name the origin under `origins` if the pods are meant, or leave these to another target",
};

/// A name that one origin of the pods is denied.
pub(super) const DENIED_TO_ANOTHER: Kind = Kind {
    name: "denied-to-another",
    code: Some(Code::Loss),
    together: None,
    help: "a pod has the denials of all its origins: name fewer under `origins`",
};

/// A name that a name server cannot block: it answers those who may have it as well.
pub(super) const NAME_BLOCKED_FOR_SOME: Kind = Kind {
    name: "name-blocked-for-some",
    code: Some(Code::OutOfReach),
    together: None,
    help: "give those who are denied it a name server of their own, or leave the denial to a target that knows clients",
};

/// A blocked address, which no name server can hold back.
pub(super) const DENIED_ADDRESS: Kind =
    Kind { name: "denied-address", code: Some(Code::OutOfReach), together: None, help: "leave it to a packet filter" };

/// A wildcard that is blocked together with the name it stands below.
pub(super) const WILDCARD_WITH_ITS_NAME: Kind = Kind {
    name: "wildcard-with-its-name",
    code: Some(Code::OutOfReach),
    together: None,
    help: "no rule allows that name; the dnsmasq and rpz targets can tell them apart",
};

/// A wildcard that is not blocked, for the name it stands below is wanted.
pub(super) const WILDCARD_UNBLOCKED: Kind = Kind {
    name: "wildcard-unblocked",
    code: Some(Code::Loss),
    together: None,
    help: "pin the name (`pins: all`, with an answer in the lock), or use the dnsmasq or rpz target",
};

/// An allowed name whose answers lead through a blocked one.
pub(super) const ALIAS_OF_BLOCKED: Kind = Kind {
    name: "alias-of-blocked",
    code: Some(Code::OutOfReach),
    together: None,
    help: "what lies behind the alias is the blocked name's: leave one of the two out",
};

/// Denials, where names are given addresses and nothing else.
pub(super) const NOTHING_BLOCKED: Kind = Kind {
    name: "nothing-blocked",
    code: Some(Code::OutOfReach),
    together: Some("a hosts file blocks no name"),
    help: "block these at a name server (unbound, dnsmasq, rpz) or by rules",
};

/// Pins, where there are no answers to pin names to.
pub(super) const NOTHING_PINNED: Kind = Kind {
    name: "nothing-pinned",
    code: Some(Code::OutOfReach),
    together: None,
    help: "run `outgate resolve`, or set `pins: none`",
};

/// Allowed names that keep the answers the name server finds.
pub(super) const UNPINNED: Kind = Kind {
    name: "unpinned",
    code: Some(Code::OutOfReach),
    together: Some("names that are not pinned"),
    help: "a rule by address may not have what they are answered: wildcards cannot be pinned, names without an answer need `outgate resolve`",
};

/// A pinned name of which one family is asked for elsewhere.
pub(super) const FAMILY_UNPINNED: Kind = Kind {
    name: "family-unpinned",
    code: Some(Code::OutOfReach),
    together: Some("names pinned in one family alone"),
    help: "a hosts file cannot say that there is no address: a client that asks for the other family asks DNS",
};

/// Names that dnsmasq feeds into the sets of nftables as it answers.
pub(super) const LEFT_TO_DNSMASQ: Kind = Kind { name: "left-to-dnsmasq", code: None, together: None, help: "" };

/// Names that are let out by their addresses, and with them every other name there.
const NAME_BY_ADDRESS: Kind = Kind { name: "name-by-address", code: None, together: None, help: "" };

/// Traffic of an origin for which the profile names no clients; the finding is that of the policy.
const NO_CLIENTS: Kind = Kind { name: "no-clients", code: None, together: None, help: "" };

/// One thing a target's files do not say.
#[derive(Clone, Debug)]
pub struct Loss {
    /// In which way.
    pub kind: &'static Kind,
    /// The rule it is missing from.
    pub rule: Option<Id>,
    /// The callout of that rule.
    pub callout: Option<Id>,
    /// The endpoints it is about.
    pub endpoints: Vec<Short>,
    /// The ports it is about.
    pub ports: Vec<String>,
    /// The origin it is about.
    pub origin: Option<Origin>,
    /// In words, on one line.
    pub text: String,
    /// Where it is written.
    pub(super) place: Option<Span>,
    /// What to do, where that is not what is to be done about every loss of the kind.
    pub(super) help: Option<&'static str>,
}

impl Loss {
    /// Of a rule.
    pub(super) fn of(rule: &Rule, kind: &'static Kind, text: String) -> Self {
        let (rule, callout) = (Some(rule.key.clone()), Some(rule.callout.id.clone()));
        Self { rule, callout, ..Self::general(kind, text) }
    }

    /// Of no rule in particular.
    pub(super) fn general(kind: &'static Kind, text: String) -> Self {
        Self {
            kind,
            rule: None,
            callout: None,
            endpoints: Vec::new(),
            ports: Vec::new(),
            origin: None,
            text,
            place: None,
            help: None,
        }
    }

    pub(super) fn endpoint(mut self, endpoint: &Endpoint) -> Self {
        self.endpoints.push(short(endpoint));
        self
    }

    pub(super) fn ports(mut self, ports: Vec<String>) -> Self {
        self.ports = ports;
        self
    }

    fn is_limit(&self) -> bool {
        self.kind.code.is_none()
    }

    /// What it is about, in a few words, for a list of many.
    fn short(&self) -> String {
        let rule = self.rule.as_ref().map_or_else(|| self.endpoints.join(", "), Id::to_string);
        if self.ports.is_empty() { rule } else { format!("{rule} ({})", self.ports.join(", ")) }
    }
}

/// The lines for the head of a file: what is missing here, without what is so in every file of the target.
pub(super) fn lines(losses: &[Loss]) -> Vec<String> {
    losses.iter().filter(|loss| !loss.is_limit()).map(|loss| loss.text.clone()).collect()
}

/// Says what is lost, each as its kind is told; as errors where the site refuses losses.
pub(super) fn tell(target: &str, losses: &[Loss], choice: Losses, findings: &mut Findings) {
    let mut say = |loss: &Loss, code, text: &str| {
        let advice = loss.help.unwrap_or(loss.kind.help);
        let (code, help) = match choice {
            Losses::Report => (code, advice.to_owned()),
            Losses::Refuse => {
                let or = if advice.is_empty() { String::new() } else { format!("{advice}; or ") };
                (Code::LossRefused, format!("{or}leave the entry out with `leave-out`, or set `losses: report`"))
            }
        };
        let diagnostic = Diagnostic::new(code, format!("{target}: {text}"));
        let diagnostic = loss.place.iter().fold(diagnostic, |diagnostic, at| diagnostic.at(at.clone(), ""));
        findings.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    };
    for (i, loss) in losses.iter().enumerate() {
        let Some(code) = loss.kind.code else { continue };
        let same = |other: &&Loss| other.kind.name == loss.kind.name;
        match loss.kind.together {
            None => say(loss, code, &loss.text),
            Some(what) if !losses.iter().take(i).any(|other| same(&other)) => {
                let all: Vec<String> = losses.iter().filter(same).map(Loss::short).collect();
                say(loss, code, &format!("{what}: {}", all.join("; ")));
            }
            Some(_) => {}
        }
    }
}

/// What every target by address cannot do: let out a name and not its neighbours.
pub(super) fn names_by_address(ruleset: &Ruleset) -> impl Iterator<Item = Loss> {
    let allows = ruleset.rules.iter().filter(|rule| rule.action == Action::Allow && ruleset.is_bound(rule));
    allows.filter_map(|rule| {
        let named = rule.destinations.iter().filter(|d| !matches!(d.endpoint, Endpoint::Net(_)) && d.gap.is_none());
        let endpoints: Vec<Short> = named.map(|d| short(&d.endpoint)).collect();
        let (first, others) = endpoints.split_first()?;
        let mut text = format!("{}: every name on the addresses of {first}", rule.key);
        others.iter().for_each(|endpoint| text.extend([", ", endpoint]));
        text.push_str(" is let out with it");
        Some(Loss { endpoints, ..Loss::of(rule, &NAME_BY_ADDRESS, text) })
    })
}

/// Entries of the policy that no target can make rules of.
pub(super) fn without_clients(ruleset: &Ruleset) -> impl Iterator<Item = Loss> {
    ruleset.uncovered.iter().map(|(origin, callout)| {
        let text = format!("{callout}: the profile names no clients of origin {}", origin.as_str());
        Loss { callout: Some(callout.clone()), origin: Some(*origin), ..Loss::general(&NO_CLIENTS, text) }
    })
}

/// About how many bytes of the file one loss is.
const ABOUT: usize = 512;

#[derive(Serialize)]
struct Document<'a> {
    format_version: u32,
    target: &'a str,
    losses: Entries<'a>,
}

/// One after the other, as they are written.
struct Entries<'a>(&'a [Loss]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Entry::of))
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    kind: &'static str,
    /// Whether `losses: refuse` refuses it.
    limit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callout: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Short]>::is_empty")]
    endpoints: &'a [Short],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    ports: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
    text: &'a str,
}

impl<'a> Entry<'a> {
    fn of(loss: &'a Loss) -> Self {
        Self {
            kind: loss.kind.name,
            limit: loss.is_limit(),
            rule: loss.rule.as_ref().map(Id::as_str),
            callout: loss.callout.as_ref().map(Id::as_str),
            endpoints: &loss.endpoints,
            ports: &loss.ports,
            origin: loss.origin.map(Origin::as_str),
            text: &loss.text,
        }
    }
}

/// The losses as a file.
pub(super) fn file(target: &str, losses: &[Loss]) -> File {
    let document = Document { format_version: FORMAT_VERSION, target, losses: Entries(losses) };
    // Texts under names that are texts: there is nothing in it that JSON could not hold.
    let mut text = Vec::with_capacity(ABOUT * losses.len());
    let text = serde_json::to_writer_pretty(&mut text, &document).ok().and_then(|()| String::from_utf8(text).ok());
    File { path: PATH.to_owned(), text: text.map(|text| text + "\n").unwrap_or_default() }
}
