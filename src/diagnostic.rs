//! What the tool has to say to the person at the keyboard: a stable code, a message, places in their files, a help.
//!
//! Checks push into [`Findings`]; colour, JSON and exit codes are decided outside.

use crate::source::Span;

/// Declares every code once, with its text form, severity and one-line meaning.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $name:ident = $text:literal $severity:ident;)+) => {
        /// Every finding there is. The text form never changes its meaning and is never used again for another.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The text form: `E` for errors, `W` for warnings, then a number.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($meaning),+).trim_ascii(),)+ }
            }
        }
    };
}

codes! {
    /// A file cannot be read.
    Unreadable = "E001" Error;
    /// A file cannot be written; nothing was changed.
    Unwritable = "E002" Error;
    /// A file is no valid YAML, or not of the shape it must have.
    BadYaml = "E003" Error;
    /// A lock cannot be read: it was edited by hand, half merged, or made by another version.
    BadLock = "E004" Error;
    /// The command line asks for something that does not fit together.
    BadUsage = "E005" Error;
    /// A host name, wildcard or service name is none.
    BadHost = "E010" Error;
    /// A port is none.
    BadPort = "E011" Error;
    /// An address or prefix is none.
    BadPrefix = "E012" Error;
    /// A release is not known.
    BadRelease = "E013" Error;
    /// A name is not one of those that can stand there.
    UnknownName = "E014" Error;
    /// Two entries have one id.
    DuplicateId = "E015" Error;
    /// A text holds what a rule file must never hold, or is too long.
    BadText = "E016" Error;
    /// A list that must name something is empty.
    Empty = "E017" Error;
    /// A wildcard covers names that belong to strangers.
    WideWildcard = "E018" Error;
    /// A date is none.
    BadDate = "E019" Error;
    /// A setting of a target is not one it can have.
    BadSetting = "E020" Error;
    /// A feature is in use whose servers the profile does not name.
    MissingServers = "E021" Error;
    /// A client is named in one address family only, so its other family would not be limited.
    OneFamily = "E022" Error;
    /// A name that is blocked and a name that is allowed lie on one address.
    SharedAddress = "E023" Error;
    /// The lock lacks a name that the rules need.
    NotInLock = "E024" Error;
    /// No name server answers.
    NoResolver = "E025" Error;
    /// A template cannot be rendered.
    BadTemplate = "E026" Error;
    /// A target cannot hold so much or so long.
    TargetLimit = "E027" Error;
    /// A policy allows nothing at all.
    NothingAllowed = "E028" Error;
    /// A target cannot express what the policy says.
    Inexpressible = "E029" Error;
    /// Prefixes are so wide that they mean anything.
    TooWide = "E030" Error;
    /// A lookup failed, and the profile says that it must not.
    LookupFatal = "E031" Error;
    /// The answers that rules would be made of are older than they may be.
    Stale = "E032" Error;
    /// A lock serves a profile it was not made for, or would change where it must not.
    LockDiffers = "E033" Error;
    /// A target cannot express a part of the policy, and the profile refuses that.
    LossRefused = "E034" Error;
    /// A vendor's list of prefixes cannot be read, or cannot be used where the profile says.
    BadRange = "E040" Error;
    /// A test of the profile does not hold.
    TestFails = "E050" Error;
    /// What no rule allows to limited clients is not denied to them, or a rule is for everything.
    NotDefaultDeny = "E051" Error;
    /// What strict mode blocks can be reached.
    TelemetryOpen = "E052" Error;
    /// The rules cut the appliance off from servers it needs, or administrators from its web interface.
    LockedOut = "E053" Error;
    /// An enforcer cannot be run here: it is not installed, or this user may not.
    NoEnforcer = "E060" Error;
    /// What is loaded cannot be read, or cannot be compared.
    BadDump = "E061" Error;
    /// An enforcer refuses the files; nothing was loaded.
    EnforcerRefuses = "E062" Error;
    /// Files are not loaded as they are: they are not up to date, or nothing could tell whether they work.
    NotApplied = "E063" Error;
    /// Another run waits for its confirmation, or ended without one.
    ApplyPending = "E064" Error;
    /// A lookup failed.
    LookupFailed = "W101" Warning;
    /// An answer held an address that a public name cannot have; it was left out.
    RefusedAddress = "W102" Warning;
    /// A name has no address, so no rule by address lets it out.
    NoAddress = "W103" Warning;
    /// A target cannot express a part of the policy; its files are narrower by that.
    Loss = "W104" Warning;
    /// Files on disk differ from what would be generated.
    Differs = "W105" Warning;
    /// An SRV record pointed outside its own domain; it was left out.
    ForeignTarget = "W106" Warning;
    /// A feature is named that the release has nothing for.
    IdleFeature = "W107" Warning;
    /// What is allowed is denied by another entry; the denial holds.
    TakenBack = "W114" Warning;
    /// Answers are past half of the age they may have.
    Aging = "W115" Warning;
    /// An allowed name is an alias of a name that is blocked.
    BlockedAlias = "W116" Warning;
    /// Resolvers do not agree: one failed where another answered, or one is silent.
    Dissent = "W117" Warning;
    /// A host has no address of a family any more that it had.
    FamilyGone = "W118" Warning;
    /// Only a part of a name's addresses has been seen, so rules by address will miss some of its traffic.
    LowCoverage = "W119" Warning;
    /// A target is in audit mode: its files log what they would deny, and block nothing.
    NotEnforced = "W120" Warning;
    /// What an earlier run put on a firewall cannot be read for sure, so the list of what to delete there may lack something.
    RetiredUnsure = "W121" Warning;
    /// Rules or aliases that are no longer in the files stay on the firewall until somebody deletes them.
    Retired = "W122" Warning;
    /// A claim of strict mode does not hold.
    NotProven = "W123" Warning;
    /// A vendor's list of prefixes cannot be read now; what is known of it is kept.
    RangeKept = "W130" Warning;
    /// A vendor's list lost more than half of its prefixes at once.
    RangeShrank = "W131" Warning;
    /// A vendor's list of prefixes has one address family only.
    RangeOneFamily = "W132" Warning;
    /// DNS answers with an address outside the list of prefixes that is given for the name.
    OutsideRange = "W133" Warning;
    /// Traffic that is no function of the system can be reached and could not.
    TelemetryOpened = "W201" Warning;
    /// A name that was denied is denied no longer.
    DenialGone = "W202" Warning;
    /// A wildcard is let out that was not.
    WildcardOpened = "W203" Warning;
    /// A prefix wider than a server's own network is let out that was not.
    WideOpened = "W204" Warning;
    /// So many ports are opened at once that they are no service.
    PortsOpened = "W205" Warning;
    /// Clients that were limited are limited no longer.
    ClientFreed = "W206" Warning;
    /// A name of the lock has no answer, and had one or was not there.
    WithoutAnswer = "W207" Warning;
    /// Less of a name's addresses is known than before.
    CoverageFell = "W208" Warning;
    /// Elements that should be in a set of the enforcer are not.
    ElementMissing = "W301" Warning;
    /// A set of the enforcer has elements that should not be there.
    ElementExtra = "W302" Warning;
    /// A rule, set or chain that should be loaded is not.
    LoadedMissing = "W303" Warning;
    /// Something is loaded in a place of ours that should not be there.
    LoadedForeign = "W304" Warning;
    /// A rule, set or chain is loaded with another meaning.
    LoadedChanged = "W305" Warning;
    /// Rules are loaded in an order that changes what they do.
    LoadedOrder = "W306" Warning;
    /// What was loaded was taken back.
    TakenDown = "W310" Warning;
    /// What was loaded could not be taken back.
    StuckLoaded = "W311" Warning;
    /// A host is written in two places of a catalog.
    HostTwice = "W108" Warning;
    /// Two intervals of one entry overlap.
    Overlap = "W109" Warning;
    /// An entry begins or ends with a release the catalog does not know.
    UnknownBound = "W110" Warning;
    /// An entry corrects a document without evidence.
    NoEvidence = "W111" Warning;
    /// A page is not the text its entries were checked against.
    Drifted = "W112" Warning;
    /// A statement of a page is covered by no entry, or judged by nobody.
    Uncovered = "W113" Warning;
    /// Something is on by default that the user did not name.
    Assumed = "N201" Note;
    /// A part of the policy that this kind of target never carries; its files say so.
    OutOfReach = "N202" Note;
    /// The release is newer than the catalog.
    NewRelease = "N203" Note;
    /// The release was named by its line, and hosts moved within it: those of all its point releases are in.
    CoarseRelease = "N204" Note;
    /// Traffic of an origin for which the profile names no clients.
    NoClients = "N205" Note;
    /// The profile names no DNS servers.
    NoDns = "N206" Note;
    /// Rules by address open all prefixes of a vendor's list.
    RangeOpens = "N220" Note;
    /// A lock serves sites that this run was not for.
    OtherSites = "N210" Note;
    /// The profile has terms for the answers of a name that no rule asks for.
    IdleTerms = "N209" Note;
    /// A name is let out by what a name server answers, and names below it with it.
    ByDns = "N211" Note;
    /// Strict mode has an exception or a decision that nothing here needs.
    IdleStrict = "N212" Note;
    /// The site accepts that a blocked name can be reached at an address of an allowed one.
    SharedAccepted = "N213" Note;
    /// A set is left over from an earlier file; no rule uses it.
    LeftOver = "N230" Note;
    /// A probe failed before anything was loaded, so it says nothing of the rules.
    ProbeSilent = "N231" Note;
    /// Two hosts of a catalog differ by one letter.
    SpellingTwin = "N207" Note;
    /// A provider, feature or source of a catalog that no entry refers to.
    Unused = "N208" Note;
}

impl Code {
    /// Whether it says that good input does not hold what it promises, where other errors say that there is no result.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self == Self::SharedAddress
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Note,
    /// The result is good but narrower or other than one may think.
    Warning,
    /// There is no result.
    Error,
}

impl Severity {
    /// The word for messages and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A place and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is said of it; may be empty.
    pub text: String,
}

/// One thing to say. The first label is the place it is about; more give context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which finding.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub labels: Vec<Label>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding without a place.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: Vec::new(), help: None }
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// What the steps of a run found, in the order they found it.
#[derive(Clone, Debug, Default)]
pub struct Findings(Vec<Diagnostic>);

impl Findings {
    /// Takes a finding in. Several targets may find the same: it is kept once.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.0.contains(&diagnostic) {
            self.0.push(diagnostic);
        }
    }

    /// Takes many in.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity() == Severity::Error)
    }

    /// How many there are: a place to look back to with [`Findings::errors_since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.0.len()
    }

    /// Whether an error was found since that mark.
    #[must_use]
    pub fn errors_since(&self, mark: usize) -> bool {
        self.0.iter().skip(mark).any(|d| d.severity() == Severity::Error)
    }

    /// All, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

/// The nearest of the known words, where one is near enough to have been meant. Numbers are near one another whatever
/// was meant, so a word that begins with a digit has no nearest.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A help line: the nearest word, or all of them.
#[must_use]
pub fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none that could stand here".to_owned(),
        None => format!("one of: {}", known.join(", ")),
    }
}

/// Levenshtein distance, with a swap of neighbours counted as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_carry_their_severity() {
        let texts: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            let letter = match code.severity() {
                Severity::Error => 'E',
                Severity::Warning => 'W',
                Severity::Note => 'N',
            };
            assert!(code.as_str().starts_with(letter), "{}", code.as_str());
            assert!(code.meaning().ends_with('.'), "{}", code.meaning());
        }
    }

    #[test]
    fn near_words_are_offered() {
        assert_eq!(nearest("relaese", ["release", "clients"]), Some("release"));
        assert_eq!(nearest("xyz", ["release", "clients"]), None);
        assert_eq!(nearest("31.04", ["13.0", "24.04"]), None);
    }
}
