//! A first profile: what the catalog knows of a release, and answers → the text of a profile with comments.
//!
//! Whoever asks the questions is not here. An answer is data: it is printed as one scalar of YAML, whatever is in it, and
//! [`text`] is read back by the profile's own reader before anything is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::callout::{BlockedLevel, Callout, Class, Origin};
use crate::catalog::{Catalog, Feature, KnownRelease};
use crate::port::Port;
use crate::strict::Level;
use crate::text::Id;

/// What somebody said of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Its name.
    pub site: String,
    /// The release its system runs.
    pub release: String,
    /// Addresses of the system.
    pub nas: Vec<String>,
    /// Addresses of whoever uses the web interface.
    pub admin: Vec<String>,
    /// Addresses of jails.
    pub jails: Vec<String>,
    /// All IPv6 of the clients' interface is denied.
    pub deny_ipv6: bool,
    /// Features in use.
    pub features: Vec<String>,
    /// The site's own servers, by kind.
    pub servers: BTreeMap<String, Vec<Server>>,
    /// What is blocked.
    pub strict: Vec<String>,
    /// Targets, each with its settings.
    pub targets: BTreeMap<String, Vec<(&'static str, String)>>,
}

/// A server of the site's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port, where it is not the usual one.
    pub port: Option<String>,
}

/// One feature, for whoever decides.
pub struct Choice<'a> {
    /// Its name in a profile.
    pub id: &'a Id,
    /// What it is.
    pub feature: &'a Feature,
    /// How many different hosts it leads to.
    pub hosts: usize,
    /// Callouts of it that are no function of the system.
    pub telemetry: usize,
    /// What is lost without it.
    pub cost: String,
}

/// The features that a release makes calls for: the usual ones first, then by name.
#[must_use]
pub fn features<'a>(catalog: &'a Catalog, release: &'a KnownRelease<'a>) -> Vec<Choice<'a>> {
    let mut callouts: BTreeMap<&Id, Vec<&Callout>> = BTreeMap::new();
    for (callout, _) in catalog.of_release(release) {
        if let Some(feature) = &callout.feature {
            callouts.entry(feature).or_default().push(callout);
        }
    }
    let choice = |(id, callouts): (&'a Id, Vec<&'a Callout>)| {
        let hosts: BTreeSet<_> = callouts.iter().flat_map(|callout| callout.endpoints.iter()).collect();
        let telemetry = callouts.iter().filter(|callout| callout.class != Class::Function).count();
        let worst = callouts.iter().max_by_key(|callout| (level(callout.blocked), callout.class == Class::Function));
        let cost = worst.and_then(|callout| callout.details().blocked_effect.as_ref());
        Some(Choice {
            id,
            feature: catalog.features.get(id)?,
            hosts: hosts.len(),
            telemetry,
            cost: cost.map_or_else(|| "the feature does not work".to_owned(), ToString::to_string),
        })
    };
    let mut choices: Vec<Choice<'_>> = callouts.into_iter().filter_map(choice).collect();
    choices.sort_by_key(|choice| !choice.feature.usual);
    choices
}

fn level(blocked: BlockedLevel) -> u8 {
    match blocked {
        BlockedLevel::None => 0,
        BlockedLevel::Feature => 1,
        BlockedLevel::Core => 2,
    }
}

/// A level of strict mode, for whoever decides.
pub struct Strictness {
    /// Its word.
    pub word: &'static str,
    /// What it blocks, in words.
    pub about: &'static str,
    /// How many callouts of this release it blocks.
    pub blocks: usize,
    /// What is lost by it; the worst of them.
    pub cost: String,
}

/// The levels of strict mode, with what each does at a release.
#[must_use]
pub fn levels(catalog: &Catalog, release: &KnownRelease<'_>) -> Vec<Strictness> {
    let callouts: Vec<&Callout> = catalog.of_release(release).map(|(callout, _)| callout.as_ref()).collect();
    let of = |(word, strict, about): (&'static str, Level, &'static str)| {
        let blocked: Vec<&&Callout> = callouts.iter().filter(|callout| strict.blocks(callout)).collect();
        let felt = blocked.iter().filter(|callout| callout.blocked != BlockedLevel::None).count();
        let worst = blocked.iter().max_by_key(|callout| level(callout.blocked));
        let cost = match worst.and_then(|callout| callout.details().blocked_effect.as_ref()) {
            Some(effect) if felt > 0 => effect.to_string(),
            _ => "nothing breaks".to_owned(),
        };
        Strictness { word, about, blocks: blocked.len(), cost }
    };
    Level::all().map(of).collect()
}

/// A kind of servers that a site must or may name.
pub struct Slot<'a> {
    /// Its name in a profile.
    pub id: &'a Id,
    /// What is sent there.
    pub title: String,
    /// The port that is meant where none is said.
    pub ports: Vec<Port>,
    /// A feature in use needs it.
    pub needed: bool,
}

/// The kinds of servers that matter with these features: those that a feature needs, and those the base system uses.
#[must_use]
pub fn slots<'a>(catalog: &'a Catalog, release: &'a KnownRelease<'a>, features: &[String]) -> Vec<Slot<'a>> {
    let mut slots: BTreeMap<&Id, Slot<'_>> = BTreeMap::new();
    for (callout, _) in catalog.of_release(release) {
        let Some(id) = &callout.slot else { continue };
        let used = callout.feature.as_ref().is_none_or(|feature| features.iter().any(|word| word == feature.as_str()));
        if used {
            let needed = callout.feature.is_some() && callout.endpoints.is_empty();
            let (title, ports) = (callout.title.to_string(), callout.ports.to_vec());
            let slot = slots.entry(id).or_insert(Slot { id, title, ports, needed: false });
            slot.needed |= needed;
        }
    }
    // Names come first: without them nothing else is found.
    let mut slots: Vec<Slot<'_>> = slots.into_values().collect();
    slots.sort_by_key(|slot| slot.id.as_str() != "dns");
    slots
}

/// Whether these features of a release make callouts of this origin.
#[must_use]
pub fn has_origin(catalog: &Catalog, release: &KnownRelease<'_>, features: &[String], origin: Origin) -> bool {
    catalog.of_release(release).any(|(callout, _)| {
        let of = |feature: &Id| features.iter().any(|word| word == feature.as_str());
        callout.origins.contains(origin) && callout.feature.as_ref().is_some_and(of)
    })
}

/// A word or address as YAML: bare where it can be nothing else, and otherwise in quotes.
fn scalar(value: &str) -> String {
    let word = value.starts_with(|c: char| c.is_ascii_lowercase())
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&value);
    let address = value.bytes().filter(|b| *b == b'.').count() == 3
        && value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'/'));
    if word || address { value.to_owned() } else { quoted(value) }
}

/// A text in quotes of YAML.
fn quoted(value: &str) -> String {
    // Everything that is no plain character is escaped: nothing ends the quotes, and nothing is a line.
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => _ = write!(out, "\\U{:08X}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

fn list(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| scalar(value)).collect::<Vec<_>>().join(", "))
}

/// The profile that answers stand for, with a comment for each key. `schema` is where the schema lies, for editors.
#[must_use]
pub fn text(answers: &Answers, catalog: &Catalog, schema: &str) -> String {
    let mut out = format!("# yaml-language-server: $schema={schema}\n");
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(
        "# What this site is and wants. `outgate resolve` asks the names that follow from it, `outgate generate` writes",
    );
    line("# the rules. Keep this file, outgate.lock and out/ in git.");
    line(&format!("site: {}", scalar(&answers.site)));
    line("");
    line("# The release decides which hosts there are. Change it with each update of the system.");
    line(&format!("release: {}", quoted(&answers.release)));
    line("");
    line("# Who opens connections. What no rule allows is denied to them, but for `admin`.");
    line("clients:");
    line("  # The system itself: every address it sends from, in both families.");
    line(&format!("  nas: {}", list(&answers.nas)));
    for (key, values, about) in [
        (
            "admin",
            &answers.admin,
            "Machines whose browser shows the web interface: they are denied what `strict` blocks, and nothing else.",
        ),
        ("jails", &answers.jails, "Jails and plugins with addresses of their own."),
    ] {
        if values.is_empty() {
            line(&format!("  # {key}: []"));
            line(&format!("  #   {about}"));
        } else {
            line(&format!("  # {about}"));
            line(&format!("  {key}: {}", list(values)));
        }
    }
    if answers.deny_ipv6 {
        line("");
        line(
            "# The clients have no IPv6 address here, so all IPv6 that comes in by their interface is denied: whatever address",
        );
        line("# they give themselves, nothing gets around the rules.");
        line("ipv6: deny-interface");
    }
    line("");
    line(
        "# What this system uses. What is not here gets no rule. `outgate catalog list --release` shows what each leads to.",
    );
    if answers.features.is_empty() {
        line("features: []");
    } else {
        line("features:");
        let width = answers.features.iter().map(|word| word.len()).max().unwrap_or_default();
        for word in &answers.features {
            let about = catalog.features.iter().find(|(id, _)| id.as_str() == word).map(|(_, feature)| &feature.about);
            let about = about.map(|about| format!("  # {about}")).unwrap_or_default();
            line(&format!("  - {:width$}{about}", scalar(word)));
        }
    }
    if !answers.servers.is_empty() {
        line("");
        line("# Your own servers. They take the place of those the catalog names.");
        line("servers:");
        for (kind, servers) in &answers.servers {
            line(&format!("  {}:", scalar(kind)));
            for server in servers {
                line(&format!("    - host: {}", scalar(&server.host)));
                if let Some(port) = &server.port {
                    line(&format!("      ports: [{}]", scalar_port(port)));
                }
            }
        }
    }
    line("");
    line(
        "# What is blocked before every allow, whoever sends it. Levels add up; docs/strict.md has exceptions and decisions.",
    );
    line(&format!("strict: {}", list(&answers.strict)));
    line("");
    line("# Where the rules go. docs/profile.md has what more can be said of each.");
    line("targets:");
    for (target, settings) in &answers.targets {
        if settings.is_empty() {
            line(&format!("  {}: {{}}", scalar(target)));
            continue;
        }
        line(&format!("  {}:", scalar(target)));
        for (key, value) in settings {
            line(&format!("    {key}: {}", scalar(value)));
        }
    }
    out
}

/// A port with its protocol; what is none is quoted, and refused by the reader.
fn scalar_port(port: &str) -> String {
    if Port::parse(port).is_ok() { port.to_owned() } else { scalar(port) }
}

#[cfg(test)]
mod tests {
    use super::scalar;

    #[test]
    fn nothing_leaves_its_scalar() {
        for (value, printed) in [
            ("updates", "updates"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:db8::1", "\"2001:db8::1\""),
            ("no", "\"no\""),
            ("1e3", "\"1e3\""),
            ("a: b", "\"a: b\""),
            ("a\"\nrelease: x", "\"a\\\"\\U0000000Arelease: x\""),
            ("\u{85}\u{2028}\u{7f}", "\"\\U00000085\\U00002028\\U0000007F\""),
            ("", "\"\""),
            ("Köln", "\"Köln\""),
        ] {
            assert_eq!(scalar(value), printed);
        }
    }
}
