//! Strict mode as a profile says it: what is blocked, what is excepted, and what is decided where a blocked name and an
//! allowed one cannot be told apart by address.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::callout::{Advice, Callout, Class, Endpoint};
use crate::diagnostic::{Code, Diagnostic, Findings, suggest};
use crate::source::{SourceId, Span};
use crate::text::{Id, Text, quoted};
use crate::yaml::Spanned;

/// What strict mode blocks. Levels add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every callout of this class; never [`Class::Function`].
    Class(Class),
    /// Every callout beside what the system is for that the catalog advises a privacy-strict site to block.
    Advised,
}

impl Level {
    /// Every level with its word and what it blocks, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = (&'static str, Self, &'static str)> {
        let classes = Class::ALL.iter().filter(|&&class| class != Class::Function);
        let classes = classes.map(|&class| (class.as_str(), Self::Class(class), class.about()));
        let advised = "Whatever of these the catalog advises a privacy-strict site to block.";
        classes.chain([("advised", Self::Advised, advised)])
    }

    /// Reads a level's word.
    ///
    /// # Errors
    /// What is wrong and what to do, as message and help.
    pub fn parse(word: &str) -> Result<Self, (String, String)> {
        if word == Class::Function.as_str() {
            return Err((
                "`function` is what the system is for; it cannot be blocked as a class".to_owned(),
                "leave a feature out of `features`, or name single entries under `leave-out`".to_owned(),
            ));
        }
        let known: Vec<&str> = Self::all().map(|(word, ..)| word).collect();
        let found = Self::all().find(|(known, ..)| *known == word).map(|(_, level, _)| level);
        found.ok_or_else(|| (format!("`{}` is no level of strict mode", quoted(word)), suggest(word, &known)))
    }

    /// The word in files and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Class(class) => class.as_str(),
            Self::Advised => "advised",
        }
    }

    /// Whether it blocks this callout. A site's own callouts carry no advice, so their class decides.
    #[must_use]
    pub fn blocks(self, callout: &Callout) -> bool {
        match self {
            Self::Class(class) => callout.class == class,
            Self::Advised => {
                callout.class != Class::Function
                    && (callout.strict == Advice::Deny || callout.details().sources.is_empty())
            }
        }
    }
}

/// What a profile says of strict mode.
#[derive(Clone, Debug, Default)]
pub struct Strict {
    /// What is blocked.
    pub levels: BTreeSet<Level>,
    /// Entries that are not blocked all the same, as written, each with its reason.
    pub except: Vec<(Spanned<String>, Text)>,
    /// What is decided for allowed endpoints that share an address with a blocked name.
    pub shared: BTreeMap<Endpoint, Shared>,
}

impl Strict {
    /// Why a callout is blocked, in words; `None` when no level blocks it.
    #[must_use]
    pub fn blocks(&self, callout: &Callout) -> Option<String> {
        // The classes come first: they say more.
        let level = self.levels.iter().find(|level| level.blocks(callout))?;
        Some(match level {
            Level::Class(class) => format!("strict: class {}", class.as_str()),
            Level::Advised => format!("strict: advised, class {}", callout.class.as_str()),
        })
    }
}

/// What is decided for one allowed endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// What becomes of it.
    pub choice: Choice,
    /// Why, for the next reader.
    pub reason: Text,
    /// Where it is written.
    pub span: Span,
}

/// What becomes of an allowed endpoint that shares an address with a blocked name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Its addresses leave every rule that goes by address; it is reached through the proxy, by name.
    Proxy,
    /// Its addresses stay allowed, and these blocked names can be reached there. Others still are an error: one that
    /// comes to lie there tomorrow was not decided on.
    Accept(BTreeSet<Endpoint>),
    /// It is let out by no target.
    Drop,
}

impl Choice {
    /// Every word that stands for one, with what it does.
    pub const NAMES: [(&'static str, &'static str); 3] = [
        ("proxy", "Its addresses leave the packet filters; it is reached by name, through Squid."),
        ("accept", "Its addresses stay open, and the blocked names under `with` can be reached there."),
        ("drop", "It is let out nowhere."),
    ];

    /// The word in files and messages.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Accept(_) => "accept",
            Self::Drop => "drop",
        }
    }
}

/// An entry that strict mode does not block.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawException {
    /// Its id, such as `usage-truenas`.
    #[schemars(with = "Id")]
    callout: Spanned<String>,
    /// Why, on one line. It stands in every file that is written.
    reason: Spanned<String>,
}

/// What is decided for an allowed host that shares an address with a blocked name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawShared {
    /// The allowed host, as its entry has it.
    host: Spanned<String>,
    /// What becomes of it: `proxy`, `accept` or `drop`.
    #[schemars(with = "ChoiceWord")]
    choice: Spanned<String>,
    /// The blocked names it shares an address with. `accept` needs them: these may be reached there, and no others.
    #[serde(default)]
    #[schemars(length(min = 1))]
    with: Vec<Spanned<String>>,
    /// Why, on one line. It stands in every file that is written.
    reason: Spanned<String>,
}

/// A word for [`Choice`].
pub(crate) enum ChoiceWord {}

/// Checks what a profile says of strict mode. Every fault becomes a finding.
pub(crate) fn check(
    levels: &[Spanned<String>],
    except: &[RawException],
    shared: &[RawShared],
    source: SourceId,
    findings: &mut Findings,
) -> Strict {
    let mut check = Check { source, findings };
    Strict {
        levels: check.levels(levels),
        except: except.iter().filter_map(|raw| Some((raw.callout.clone(), check.text(&raw.reason)?))).collect(),
        shared: check.shared(shared),
    }
}

struct Check<'a> {
    source: SourceId,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn fail(&mut self, code: Code, message: String, at: &Spanned<String>, help: &str) {
        let diagnostic = Diagnostic::new(code, message).at(at.span(self.source), "");
        self.findings.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    fn levels(&mut self, words: &[Spanned<String>]) -> BTreeSet<Level> {
        let mut levels = BTreeSet::new();
        for word in words {
            match Level::parse(&word.value) {
                Ok(level) => _ = levels.insert(level),
                Err((message, help)) => self.fail(Code::UnknownName, message, word, &help),
            }
        }
        levels
    }

    fn text(&mut self, text: &Spanned<String>) -> Option<Text> {
        let error = match Text::parse(&text.value) {
            Ok(text) => return Some(text),
            Err(error) => error,
        };
        self.fail(Code::BadText, format!("`{}` {error}", quoted(&text.value)), text, "");
        None
    }

    fn endpoint(&mut self, text: &Spanned<String>) -> Option<Endpoint> {
        match Endpoint::parse(&text.value) {
            Ok(endpoint) => Some(endpoint),
            Err((code, message)) => {
                self.fail(code, message, text, "");
                None
            }
        }
    }

    fn shared(&mut self, list: &[RawShared]) -> BTreeMap<Endpoint, Shared> {
        let mut shared = BTreeMap::new();
        for raw in list {
            let with: Vec<Endpoint> = raw.with.iter().filter_map(|name| self.endpoint(name)).collect();
            let (host, reason, choice) = (self.endpoint(&raw.host), self.text(&raw.reason), self.choice(raw, with));
            let (Some(host), Some(reason), Some(choice)) = (host, reason, choice) else { continue };
            if let (Endpoint::Net(_), Choice::Proxy) = (&host, &choice) {
                let message = format!("`{host}` is an address; a proxy goes by name");
                self.fail(Code::BadSetting, message, &raw.host, "say `accept` or `drop`");
                continue;
            }
            let span = raw.host.span(self.source);
            if shared.insert(host.clone(), Shared { choice, reason, span }).is_some() {
                let message = format!("`{host}` is decided on twice");
                self.fail(Code::DuplicateId, message, &raw.host, "make the two one");
            }
        }
        shared
    }

    fn choice(&mut self, raw: &RawShared, with: Vec<Endpoint>) -> Option<Choice> {
        let (code, message, help) = match raw.choice.value.as_str() {
            "proxy" => return Some(Choice::Proxy),
            "drop" => return Some(Choice::Drop),
            "accept" if !raw.with.is_empty() => return Some(Choice::Accept(with.into_iter().collect())),
            "accept" => {
                let message = format!("`{}` is accepted, but not with what", quoted(&raw.host.value));
                let help = "name the blocked names that may be reached there under `with`, as the error names them";
                (Code::Empty, message, help.to_owned())
            }
            other => {
                let help = suggest(other, &Choice::NAMES.map(|(name, _)| name));
                (Code::BadSetting, format!("`{}` is not a choice here", quoted(other)), help)
            }
        };
        self.fail(code, message, &raw.choice, &help);
        None
    }
}
