//! What a target makes of traffic, as far as a rule set says: whose it sees, what it goes by, and which rules it has. For
//! whoever asks whether a flow gets through; the files are rendered elsewhere.

use std::borrow::Cow;

use crate::addrs::AddrSet;
use crate::callout::{Origin, Origins};
use crate::host::{Host, NamePattern};
use crate::port::{Port, Protocol};
use crate::ruleset::{Action, Rule, Ruleset};

/// A target that lets traffic out or holds it back.
#[derive(Clone, Debug)]
pub struct Wall<'a> {
    /// The rules as it takes them.
    pub ruleset: Cow<'a, Ruleset>,
    /// What it goes by.
    pub sight: Sight,
    /// The ports it carries; what goes to others never comes to it.
    pub carries: Vec<Port>,
    /// It never sees the administrator's browser.
    pub browser_unseen: bool,
    /// It logs what it would deny, and denies nothing.
    pub audit: bool,
    /// Whoever comes to it is denied what no rule allows, the administrator too.
    pub everybody: bool,
    /// It knows no interface, and so cannot deny all IPv6 there.
    pub no_interface: bool,
    /// Names whose addresses somebody else puts in as they are answered, with those of every name below.
    pub fed: Vec<NamePattern>,
    /// Hosts of which it lets out some paths alone.
    pub only_paths: Vec<Host>,
    /// It limits pods that have the rules of these origins, whatever their addresses.
    pub pods: Option<Origins>,
}

/// What a target goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Addresses of the lock.
    Address,
    /// Addresses that it looks up itself. The lock says what they are as far as anybody knows.
    Lookup {
        /// Whether it can look up what a wildcard covers.
        wildcards: bool,
    },
    /// Names.
    Name {
        /// Whether it knows the addresses as well that a rule names itself.
        addresses: bool,
    },
}

impl<'a> Wall<'a> {
    /// One that goes by address and sees everything.
    #[must_use]
    pub fn by_address(ruleset: &'a Ruleset) -> Self {
        Self {
            ruleset: Cow::Borrowed(ruleset),
            sight: Sight::Address,
            carries: Protocol::ALL.map(Port::every).to_vec(),
            browser_unseen: false,
            audit: false,
            everybody: false,
            no_interface: false,
            fed: Vec::new(),
            only_paths: Vec::new(),
            pods: None,
        }
    }

    /// Why it has no part in the traffic of an origin; `None` where it has.
    #[must_use]
    pub fn unseen(&self, origin: Origin) -> Option<&'static str> {
        match &self.pods {
            Some(pods) if !pods.contains(origin) => Some("it limits pods, and these are none"),
            None if self.browser_unseen && origin == Origin::Browser => Some(super::BROWSER_ELSEWHERE),
            _ => None,
        }
    }

    /// Whose traffic it sees at all, of the clients of the rule set.
    #[must_use]
    pub fn seen(&self) -> AddrSet {
        let seen = self.ruleset.clients.iter().filter(|(origin, _)| self.unseen(**origin).is_none());
        seen.map(|(_, group)| &group.addrs).collect()
    }

    /// Whose packets one of its rules is about.
    #[must_use]
    pub fn clients(&self, rule: &Rule) -> AddrSet {
        let ruleset = &self.ruleset;
        if let Some(pods) = &self.pods {
            // Pods have the rules of all of their origins.
            return if rule.origins.is_disjoint(*pods) { AddrSet::new() } else { ruleset.clients_of(*pods) };
        }
        let bound = ruleset.clients_of(ruleset.bound(rule));
        match (self.everybody, rule.action) {
            (false, _) => bound,
            (true, Action::Deny) => ruleset.clients_of(rule.origins),
            // An administrators' prefix may hold the appliance: what is theirs alone is not its own.
            (true, Action::Allow) => ruleset.clients_of(rule.origins).minus(&ruleset.limited()).union(&bound),
        }
    }

    /// Who is denied what no rule allows.
    #[must_use]
    pub fn limited(&self) -> AddrSet {
        match &self.pods {
            Some(pods) => self.ruleset.clients_of(*pods),
            None if self.everybody => self.seen(),
            None => self.ruleset.limited(),
        }
    }
}
