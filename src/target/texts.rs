//! What several targets write of each rule: its addresses and where it leads, made once for all targets of a site.

use std::cell::OnceCell;

use super::{Rule, Ruleset, names_by_address};

/// A rule set, and the texts of its rules, made when the first target asks for them. Each target writing the addresses
/// anew took a tenth of a run.
pub struct Texts<'a> {
    /// The rule set.
    pub ruleset: &'a Ruleset,
    rules: OnceCell<Written>,
}

/// The texts of all rules, one behind the other; each line with its end.
#[derive(Default)]
struct Written {
    text: String,
    /// Where the parts of each rule end, rule by rule.
    ends: Vec<usize>,
}

const PARTS: usize = 5;

/// The texts of one rule: lines without an end behind the last.
#[derive(Clone, Copy)]
pub(super) struct RuleTexts<'a> {
    written: &'a Written,
    place: usize,
}

impl<'a> Texts<'a> {
    /// Of this rule set.
    #[must_use]
    pub fn of(ruleset: &'a Ruleset) -> Self {
        Self { ruleset, rules: OnceCell::new() }
    }

    /// Each rule with its texts, in their order.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&'a Rule, RuleTexts<'_>)> {
        let written = self.rules.get_or_init(|| write(self.ruleset));
        self.ruleset.rules.iter().enumerate().map(|(place, rule)| (rule, RuleTexts { written, place }))
    }
}

fn write(ruleset: &Ruleset) -> Written {
    let mut written = Written { text: String::new(), ends: Vec::with_capacity(PARTS * ruleset.rules.len()) };
    for rule in &ruleset.rules {
        let (hosts, nets) = rule.hosts_and_nets();
        let parts: [&dyn Fn(&mut String); PARTS] = [
            &names_by_address(rule, ruleset),
            &|out| hosts.push_v4_singles(out, "\n"),
            &|out| hosts.push_v6_singles(out, "\n"),
            &|out| nets.push_v4_list(out, "\n"),
            &|out| nets.push_v6_list(out, "\n"),
        ];
        let text = &mut written.text;
        for part in parts {
            let begin = text.len();
            part(text);
            if text.len() > begin {
                text.push('\n');
            }
            written.ends.push(text.len());
        }
    }
    written
}

impl<'a> RuleTexts<'a> {
    /// Where the rule leads for a target that goes by address: its endpoints, and the lists that widen them.
    pub(super) fn names(self) -> &'a str {
        self.parts(0, 0)
    }

    /// Single IPv4 addresses that its names lead to, or that it names.
    pub(super) fn v4(self) -> &'a str {
        self.parts(1, 1)
    }

    /// The same of IPv6.
    pub(super) fn v6(self) -> &'a str {
        self.parts(2, 2)
    }

    /// Those of both families, IPv4 first.
    pub(super) fn hosts(self) -> &'a str {
        self.parts(1, 2)
    }

    /// IPv4 prefixes of the rule and of its lists, as few as can be.
    pub(super) fn v4_nets(self) -> &'a str {
        self.parts(3, 3)
    }

    /// The same of IPv6.
    pub(super) fn v6_nets(self) -> &'a str {
        self.parts(4, 4)
    }

    /// Those of both families, IPv4 first.
    pub(super) fn nets(self) -> &'a str {
        self.parts(3, 4)
    }

    /// Addresses one by one, so that a refresh touches only what moved; then prefixes.
    pub(super) fn addrs(self) -> &'a str {
        self.parts(1, 4)
    }

    /// From one part to another.
    fn parts(self, first: usize, last: usize) -> &'a str {
        let Written { text, ends } = self.written;
        let end = |part: usize| ends.get(part).copied();
        let (first, last) = (self.place * PARTS + first, self.place * PARTS + last);
        let begin = first.checked_sub(1).map_or(Some(0), end);
        let lines = begin.zip(end(last)).and_then(|(begin, end)| text.get(begin..end)).unwrap_or_default();
        lines.strip_suffix('\n').unwrap_or(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Findings;
    use crate::source::Sources;
    use crate::{catalog, policy, profile, ruleset};

    #[test]
    fn a_rule_has_its_lines_and_no_others() {
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let files = catalog::embedded::files(&mut sources);
        let catalog = catalog::read(&sources, &files, &mut findings).unwrap();
        let text = "release: 25.10.2\nclients: {nas: [192.0.2.10, '2001:db8::10']}\nfeatures: []\nextra:\n\
                    - {id: a, purpose: p, origin: [nas], hosts: [198.51.100.9, 198.51.100.8, '2001:db8:1::/48', 203.0.113.0/25], ports: [443/tcp]}\n\
                    - {id: b, purpose: p, origin: [nas], hosts: ['2001:db8:2::1'], ports: [443/tcp]}\n";
        let id = sources.add("outgate.yaml", text);
        let profile = profile::read(&sources, id, &catalog.known(false), &mut findings).unwrap();
        let policy = policy::decide(&catalog, &profile, &mut findings).unwrap();
        let rules = ruleset::build(&policy, None, &mut findings);
        let texts = Texts::of(&rules);
        let of = |key: &str| texts.rules().find(|(rule, _)| rule.key.as_str() == key).unwrap().1;
        let (a, b) = (of("a"), of("b"));
        assert_eq!(a.names().lines().count(), 4);
        assert_eq!(
            (a.v4(), a.v6(), a.v4_nets(), a.v6_nets()),
            ("198.51.100.8\n198.51.100.9", "", "203.0.113.0/25", "2001:db8:1::/48")
        );
        assert_eq!((a.hosts(), a.nets()), ("198.51.100.8\n198.51.100.9", "203.0.113.0/25\n2001:db8:1::/48"));
        assert_eq!(a.addrs(), [a.hosts(), a.nets()].join("\n"));
        assert_eq!(
            (b.names(), b.v4(), b.v6(), b.hosts(), b.nets(), b.addrs()),
            ("2001:db8:2::1", "", "2001:db8:2::1", "2001:db8:2::1", "", "2001:db8:2::1")
        );
    }
}
