//! Targets: [`Ruleset`] → files, through templates; the only door of `minijinja`.
//!
//! A target plans its pages: which template with which values. Rendering is the same for all: undefined names are
//! errors, and one guard refuses to print what could end a comment, a quote or a line. Templates hold the text of the
//! rules and no logic beyond loops; a user may replace them, and the guard holds for theirs as well.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::Serialize;

use crate::addrs;
use crate::callout::{Endpoint, Origin};
use crate::diagnostic::{Code, Diagnostic, Findings, suggest};
use crate::digest::sha256;
use crate::host::Host;
use crate::ruleset::{Action, Destination, Gap, Rule, Ruleset};
use crate::settings::Settings;
use crate::source::{SourceId, Sources, Span};
use crate::text::{self, quoted};

use loss::Loss;
use rows::{Cell, Table};
use texts::{RuleTexts, Texts};
use wall::Wall;

/// Declares the targets once: their modules and the list of them.
macro_rules! targets {
    ($($name:ident),+) => {
        $(pub mod $name;)+
        /// Every target, by name.
        pub const TARGETS: &[&Target] = &[$(&$name::TARGET),+];
    };
}

pub mod loss;
mod names;
mod rows;
pub mod texts;
pub mod wall;

targets! { cilium, dnsmasq, hosts, lists, nftables, opnsense, pf, rpz, squid, unbound }

/// One kind of enforcer.
pub struct Target {
    /// Its name: of its folder under `out/` and `templates/`, and on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// What its rules go by.
    pub layer: Layer,
    /// What it cannot express.
    pub limits: &'static [&'static str],
    /// The file that is loaded; `--stdout` prints it.
    pub main: &'static str,
    /// Files it may write, below the output folder; `*` in a name stands for any characters. What matches and is no
    /// longer written is removed.
    pub owns: &'static [&'static str],
    /// A command that checks the main file where the enforcer is installed; the file's path follows.
    pub check: &'static [&'static str],
    /// Its templates: path below `templates/`, text.
    pub templates: &'static [(&'static str, &'static str)],
    /// Whether the site has it.
    pub chosen: fn(&Settings) -> bool,
    /// What it makes of traffic; `None` where it lets nothing out and holds nothing back.
    pub wall: for<'a> fn(&'a Ruleset) -> Option<Wall<'a>>,
    /// What to write, and what that lacks. Faults become findings; `None` with an error.
    pub plan: fn(&Texts<'_>, &mut Findings) -> Option<Plan>,
    /// What stops what a denial is about, and how that is told in the files.
    pub stops: fn(&Ruleset, &Rule) -> Stop,
    /// What a rule is called there, and in its log; without a rule, what denies all the rest. `None` where it has no such
    /// rule.
    pub handle: fn(&Ruleset, Option<&Rule>) -> Option<String>,
    /// Of a name server: whether a name resolves.
    pub resolves: fn(&Ruleset, &Host) -> Option<bool>,
    /// For an enforcer that keeps what is loaded until somebody deletes it: tells what is gone.
    pub retire: Option<Retire>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What becomes of blocked traffic at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A rule for it stops it. Each mark stands in the files.
    Rule(Vec<Mark>),
    /// No rule knows where it goes; what no rule allows is denied. The mark is that of the last rule.
    Rest(Vec<Mark>),
    /// This target has no part in it, for this reason.
    NotHere(String),
    /// Nothing stops it, for this reason.
    Open(String),
}

/// How a denial is told in a target's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it goes by.
    pub by: By,
    /// The beginning of the file's path, below the target's folder.
    pub file: String,
    /// What stands in one line of it.
    pub line: Line,
}

/// What a denial goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The address of a packet.
    Address,
    /// The name a client asks a proxy for.
    Name,
    /// The server name in the TLS handshake.
    Sni,
    /// The name a client looks up.
    Dns,
}

impl By {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Name => "name",
            Self::Sni => "sni",
            Self::Dns => "dns",
        }
    }
}

/// What tells a line from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// It holds this text.
    Holds(String),
    /// It is one of these, but for spaces around it.
    IsOneOf(Vec<String>),
}

impl Line {
    /// Whether a line is meant.
    #[must_use]
    pub fn is(&self, line: &str) -> bool {
        match self {
            Self::Holds(text) => line.contains(text.as_str()),
            Self::IsOneOf(texts) => texts.iter().any(|text| line.trim() == text),
        }
    }
}

impl Mark {
    fn holds(by: By, file: &str, text: impl Into<String>) -> Self {
        Self { by, file: file.to_owned(), line: Line::Holds(text.into()) }
    }
}

/// What stops a denial at a target that goes by address: its own rule where an address is known, the last one where
/// these clients are denied by default, and otherwise nothing.
fn stops_by_address(ruleset: &Ruleset, rule: &Rule, own: Mark, rest: Mark) -> Stop {
    if ruleset.clients_of(ruleset.bound(rule)).is_empty() {
        return Stop::NotHere("no clients of its origin are named".to_owned());
    }
    let open = |d: &&Destination| d.addrs.is_empty() && d.accepted.is_none();
    match rule.destinations.iter().find(open) {
        Some(d) if ruleset.is_sole_denial(rule) => Stop::Open(format!("the lock has no address of {}", d.endpoint)),
        _ if rule.addrs().is_empty() => Stop::Rest(vec![rest]),
        _ => Stop::Rule(vec![own]),
    }
}

/// The files of an earlier run and those of this one, by path below the target's folder → a file that lists what the
/// earlier ones put on the enforcer and these no longer hold; `None` when that is nothing. An earlier list is among the
/// earlier files. No files of this run: the target is gone from the site.
pub type Retire = fn(&BTreeMap<String, String>, &[File], &mut Findings) -> Option<File>;

/// What a target's rules go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Addresses alone: a lock is needed.
    Addresses,
    /// Names; addresses where the site asks for them.
    Names,
}

/// What a target makes of a rule set.
pub struct Plan {
    /// The files to render.
    pub pages: Vec<Page>,
    /// What they do not say.
    pub losses: Vec<Loss>,
}

/// One file to be rendered.
pub struct Page {
    /// Path below the target's folder.
    pub path: String,
    /// Template, by its path below `templates/`.
    pub template: &'static str,
    /// The values.
    pub values: Value,
    /// About how many bytes it will have: so many it does not move while it grows.
    about: usize,
}

impl Page {
    fn new(path: impl Into<String>, template: &'static str, values: impl Serialize) -> Self {
        Self { path: path.into(), template, values: Value::from(Serde(values)), about: 0 }
    }

    /// Another page of the same values.
    fn beside(&self, path: impl Into<String>, template: &'static str) -> Self {
        Self { path: path.into(), template, values: self.values.clone(), about: self.about }
    }

    /// Says how long it will be, by what is filled in.
    fn about(self, bytes: usize) -> Self {
        Self { about: bytes, ..self }
    }
}

/// One file, done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path below the target's folder.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// A target by name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// Renders one target; among its files is always [`loss::PATH`]. `replaced` holds the user's own templates by path. Faults become findings; `None` with one.
pub fn render(
    target: &Target,
    ruleset: &Ruleset,
    replaced: &BTreeMap<String, SourceId>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Option<Vec<File>> {
    render_from(&Templates::default(), target, &Texts::of(ruleset), replaced, sources, findings)
}

/// Templates of some targets, read once for many sites.
#[derive(Default)]
pub struct Templates(BTreeMap<&'static str, Parsed>);

/// The templates of one target.
struct Parsed {
    env: Environment<'static>,
    ids: BTreeMap<&'static str, SourceId>,
}

impl Templates {
    /// Reads the templates of these targets into the sources that later renderings have. One that cannot be read is left
    /// out here, and is a finding when its target is rendered.
    pub fn of<'a>(
        targets: impl IntoIterator<Item = &'a &'static Target>,
        replaced: &BTreeMap<String, SourceId>,
        sources: &mut Sources,
    ) -> Self {
        let mut unsaid = Findings::default();
        let parsed = |target: &&'static Target| Some((target.name, parse(target, replaced, sources, &mut unsaid)?));
        Self(targets.into_iter().filter_map(parsed).collect())
    }
}

fn parse(
    target: &Target,
    replaced: &BTreeMap<String, SourceId>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Option<Parsed> {
    let (mut env, mut ids) = (environment(), BTreeMap::new());
    for (path, text) in target.templates {
        let id = replaced.get(*path).copied().unwrap_or_else(|| sources.add(format!("templates/{path}"), *text));
        ids.insert(*path, id);
        if let Err(error) = env.add_template_owned(*path, sources.get(id).text.clone()) {
            findings.push(explain(&error, id, sources, &Value::UNDEFINED));
            return None;
        }
    }
    Some(Parsed { env, ids })
}

/// The same as [`render`], by templates that were read before where they are there, and with texts that other targets of the
/// site have as well.
pub fn render_from(
    templates: &Templates,
    target: &Target,
    texts: &Texts<'_>,
    replaced: &BTreeMap<String, SourceId>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Option<Vec<File>> {
    let mark = findings.mark();
    let Plan { pages, mut losses } = (target.plan)(texts, findings)?;
    let ruleset = texts.ruleset;
    losses.extend(loss::without_clients(ruleset));
    loss::tell(target.name, &losses, ruleset.settings.losses_of(target.name), findings);
    if findings.errors_since(mark) {
        return None;
    }
    let own;
    let Parsed { env, ids } = match templates.0.get(target.name) {
        Some(parsed) => parsed,
        None => {
            own = parse(target, replaced, sources, findings)?;
            &own
        }
    };
    let mut files = vec![loss::file(target.name, &losses)];
    for page in pages {
        let rendered = env.get_template(page.template).and_then(|template| written(&template, &page));
        match (rendered, ids.get(page.template)) {
            (Ok(mut text), _) => {
                // What was more than enough is for the next.
                text.shrink_to_fit();
                files.push(File { path: page.path, text });
            }
            (Err(error), Some(&id)) => {
                findings.push(explain(&error, id, sources, &page.values));
                return None;
            }
            // A target that plans a page of no template of its own; the tests of every target would meet it.
            (Err(error), None) => {
                findings.push(Diagnostic::new(Code::BadTemplate, error.to_string()));
                return None;
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Some(files)
}

fn written(template: &minijinja::Template<'_, '_>, page: &Page) -> Result<String, Error> {
    let mut text = Vec::with_capacity(page.about);
    template.render_captured_to(&page.values, &mut text)?;
    String::from_utf8(text).map_err(|error| invalid(error.to_string()))
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // A template that loops without end is stopped: a rule of ours costs about a hundred steps.
    env.set_fuel(Some(500_000_000));
    // Errors know their place.
    env.set_debug(true);
    env.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()
            .unwrap_or_default(),
    );
    env.set_auto_escape_callback(|_| AutoEscape::Custom("guard".into()));
    env.set_formatter(guard);
    // The way around the guard that minijinja brings.
    env.remove_filter("safe");
    env.add_filter("block", block);
    env.add_filter("escaped_lines", escaped_lines);
    env.add_filter("fill", fill);
    env
}

/// Prints a value or refuses it: no text may end the line, the comment or the quotes it is printed into.
fn guard(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number => write!(out, "{value}").map_err(Error::from),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            // Safe values come from `block`, which has looked at every line, and from what a template captures, whose
            // values were looked at when they were printed into it.
            if !value.is_safe() {
                check(text)?;
            }
            out.write_str(text).map_err(Error::from)
        }
        kind => match value.downcast_object_ref::<Filled>() {
            Some(filled) => filled.write(out).map_err(invalid),
            None => Err(invalid(format!("refusing to write a value of kind {kind} into a rule file"))),
        },
    }
}

impl Object for Table {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let place = key.as_usize().filter(|&place| place < self.len())?;
        Some(Value::from_object(Row { table: Arc::clone(self), place }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.len())
    }
}

/// A row of a table, for a template that loops over them.
#[derive(Debug)]
struct Row {
    table: Arc<Table>,
    place: usize,
}

impl Object for Row {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.table.get(self.place, key.as_str()?).map(Value::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(self.table.columns())
    }
}

/// What is to be written for each row; it is made where it is printed, for it may be megabytes.
#[derive(Debug)]
struct Filled {
    table: Arc<Table>,
    body: String,
    /// Texts by name, one a line.
    texts: Vec<(String, String)>,
}

impl Filled {
    fn write(&self, to: &mut dyn fmt::Write) -> Result<(), String> {
        let texts = self.texts.iter().map(|(name, text)| (name.as_str(), text.lines().collect()));
        self.table.fill(&self.body, &texts.collect::<Vec<_>>(), to)
    }
}

impl Object for Filled {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f).map_err(|_| fmt::Error)
    }
}

/// Template filter: what is between its tags, once for each row: [`Table::fill`]. What a named argument has, a text a line,
/// is picked by the numbers of the cells of that name.
fn fill(body: &Value, rows: &Value, named: Kwargs) -> Result<Value, Error> {
    // Texts that a template captured were looked at when they were made.
    let checked = |text: &Value| match text.as_str() {
        Some(lines) if text.is_safe() => Ok(lines.to_owned()),
        Some(lines) => refuse(text::forbidden_in_lines(lines)).map(|()| lines.to_owned()),
        None => Err(invalid(format!("`fill` takes texts, and this is a value of kind {}", text.kind()))),
    };
    let Some(table) = rows.downcast_object::<Table>() else {
        return Err(invalid(format!("`fill` takes rows, and this is a value of kind {}", rows.kind())));
    };
    refuse(table.forbidden())?;
    let mut texts = Vec::new();
    for name in named.args() {
        texts.push((name.to_owned(), checked(&named.get(name)?)?));
    }
    Ok(Value::from_object(Filled { table, body: checked(body)?, texts }))
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

fn check(text: &str) -> Result<(), Error> {
    refuse(text::forbidden(text))
}

fn refuse(forbidden: Option<char>) -> Result<(), Error> {
    match forbidden {
        Some(c) => Err(invalid(format!("refusing to write {} into a rule file", text::describe(c)))),
        None => Ok(()),
    }
}

/// Template filter: many lines at once, each looked at, each behind the same beginning, such as an indent. One value a
/// set, for a loop over a million elements in the template would cost more than all else.
fn block(text: &str, beginning: Option<&str>) -> Result<Value, Error> {
    let beginning = beginning.unwrap_or("");
    check(beginning.trim_start_matches('\t'))?;
    // Shorter lines than this are few, and then there are few of them.
    let mut out = String::with_capacity(text.len() + (text.len() / 8 + 1) * beginning.len());
    refuse(text::forbidden_in_lines(text))?;
    for (i, line) in text.lines().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.push_str(beginning);
        out.push_str(line);
    }
    Ok(Value::from_safe_string(out))
}

/// Template filter: many lines, each looked at, as one of a JSON text.
fn escaped_lines(text: &str) -> Result<Value, Error> {
    refuse(text::forbidden_in_lines(text))?;
    Ok(Value::from_safe_string(text.lines().collect::<Vec<_>>().join("\\n")))
}

fn explain(error: &Error, source: SourceId, sources: &Sources, values: &Value) -> Diagnostic {
    let text = &sources.get(source).text;
    let mut root = error;
    while let Some(cause) = std::error::Error::source(root).and_then(|cause| cause.downcast_ref::<Error>()) {
        root = cause;
    }
    let message = match root.detail() {
        Some(detail) => format!("{}: {detail}", root.kind()),
        None => root.kind().to_string(),
    };
    let place = root.range().filter(|range| text.get(range.clone()).is_some_and(|t| !t.trim().is_empty()));
    let place = place.or_else(|| root.line().and_then(|line| line_range(text, line))).unwrap_or(0..0);
    let excerpt = text.get(place.clone()).unwrap_or("");
    let diagnostic = match root.kind() {
        ErrorKind::UndefinedError => {
            let known: Vec<String> = values.try_iter().into_iter().flatten().map(|key| key.to_string()).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let diagnostic = Diagnostic::new(Code::BadTemplate, format!("`{}` has no value here", quoted(excerpt)));
            // What stands behind a dot belongs to another value than these.
            if known.is_empty() || excerpt.contains('.') {
                diagnostic
            } else {
                diagnostic.help(suggest(excerpt, &known))
            }
        }
        ErrorKind::UnknownFilter if excerpt.contains("safe") => Diagnostic::new(Code::BadTemplate, message)
            .help("take it out: every value is looked at as it is printed, and nothing goes around that"),
        _ => Diagnostic::new(Code::BadTemplate, message),
    };
    diagnostic.at(Span { source, range: place }, "")
}

fn line_range(text: &str, line: usize) -> Option<std::ops::Range<usize>> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    Some(start..start + text.get(start..)?.lines().next()?.len())
}

/// The head of every file: what it is, of what, and what it leaves out.
#[derive(Clone, Debug, Serialize)]
struct Header {
    site: String,
    release: String,
    answered: String,
    /// What the site decided about strict mode.
    decided: Vec<String>,
    losses: Vec<String>,
}

impl Header {
    fn new(ruleset: &Ruleset, losses: &[Loss]) -> Self {
        Self {
            site: ruleset.site.to_string(),
            release: ruleset.release.clone(),
            answered: match ruleset.answered {
                Some(day) if ruleset.stale => format!("{day}, some older than they may be (--allow-stale)"),
                Some(day) => day.to_string(),
                None => "none".to_owned(),
            },
            decided: ruleset.decided.clone(),
            losses: loss::lines(losses),
        }
    }

    /// The same as a value that many pages share.
    fn once(&self) -> Value {
        Value::from(Serde(self))
    }
}

/// Why a rule is there, for a comment above it.
#[derive(Clone, Debug, Serialize)]
struct Why {
    id: String,
    title: String,
    action: &'static str,
    reason: String,
    class: &'static str,
    source: String,
    /// Where it leads, a line each: one value, for a rule may lead to many.
    names: String,
}

impl Why {
    fn of(rule: &Rule) -> Self {
        Self {
            id: rule.key.to_string(),
            title: rule.callout.title.to_string(),
            action: rule.action.as_str(),
            reason: rule.reason.to_string(),
            class: rule.callout.class.as_str(),
            source: rule.callout.first_source(),
            names: text_of(&names(rule)),
        }
    }
}

/// Where a rule leads, a line each.
fn names(rule: &Rule) -> impl Fn(&mut String) {
    rows::lines(&rule.destinations, |destination, out| push_endpoint(out, &destination.endpoint))
}

/// The same for a target that goes by address: with the lists of prefixes that widen the rule.
fn names_by_address(rule: &Rule, ruleset: &Ruleset) -> impl Fn(&mut String) {
    move |out| {
        names(rule)(out);
        for id in rule.lists() {
            let Some(list) = ruleset.lists.get(id) else { continue };
            let widened = rule.destinations.iter().filter(|d| d.lists().contains(id)).map(|d| d.endpoint.to_string());
            let (size, names) = (list.addrs.size(), widened.collect::<Vec<_>>().join(", "));
            *out += &format!("\nwith {size} of list {id}, {}, for {names}", list.from);
        }
    }
}

fn text_of(cell: &dyn Cell) -> String {
    let mut text = String::new();
    cell.write(&mut text);
    text
}

fn push_endpoint(out: &mut String, endpoint: &Endpoint) {
    match endpoint {
        Endpoint::Net(net) => addrs::list::push(out, net),
        Endpoint::Name(_) | Endpoint::Service(_) => *out += &endpoint.to_string(),
    }
}

/// What a gap in a rule comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// The lock must be made first.
    NotInLock,
    /// Less is let out than the profile says.
    Narrower,
    /// Whatever is not allowed to these clients is denied to them all the same.
    Covered,
    /// What is to be blocked can be somewhere, and nothing would block it.
    Missed,
    /// What is to be blocked is nowhere as far as the name servers say; asked elsewhere it may be.
    Nowhere,
}

fn consequence(ruleset: &Ruleset, rule: &Rule, gap: &Gap) -> Consequence {
    let sole = ruleset.is_sole_denial(rule);
    match (rule.action, gap) {
        (_, Gap::NotInLock) => Consequence::NotInLock,
        // Said when the rules were made.
        (_, Gap::Denied(_) | Gap::Proxied(_) | Gap::Dropped(_)) => Consequence::Covered,
        (Action::Allow, Gap::Wildcard | Gap::NoAddress(_) | Gap::Unanswered(_)) => Consequence::Narrower,
        (Action::Deny, Gap::Wildcard | Gap::Unanswered(_)) if sole => Consequence::Missed,
        (Action::Deny, Gap::NoAddress(_)) if sole => Consequence::Nowhere,
        (Action::Deny, Gap::Wildcard | Gap::NoAddress(_) | Gap::Unanswered(_)) => Consequence::Covered,
    }
}

/// What a target that goes by address must find settled: names in the lock, both families, no shared addresses.
/// Returns what it cannot express.
fn address_losses(target: &str, ruleset: &Ruleset, findings: &mut Findings) -> Vec<Loss> {
    address_losses_but(&|_| false, target, ruleset, findings)
}

/// The same for a target that has the addresses of some endpoints in another way than from the lock.
fn address_losses_but(
    elsewhere: &dyn Fn(&Endpoint) -> bool,
    target: &str,
    ruleset: &Ruleset,
    findings: &mut Findings,
) -> Vec<Loss> {
    let mut losses = Vec::new();
    let mut not_in_lock = Vec::new();
    for rule in &ruleset.rules {
        for destination in &rule.destinations {
            let (key, name) = (&rule.key, &destination.endpoint);
            let Some(gap) = destination.gap.as_deref().filter(|_| !elsewhere(name)) else { continue };
            let (kind, text) = match consequence(ruleset, rule, gap) {
                Consequence::NotInLock => {
                    not_in_lock.push(name.to_string());
                    continue;
                }
                Consequence::Covered => continue,
                Consequence::Missed => {
                    findings.push(missed_denial(target, rule, destination));
                    continue;
                }
                Consequence::Nowhere => (
                    &loss::DENIAL_WITHOUT_ADDRESS,
                    format!("{key}: {name} is to be blocked, and no rule does: it has no address in the lock"),
                ),
                Consequence::Narrower => match gap {
                    Gap::Wildcard => {
                        (&loss::WILDCARD, format!("{key}: {name} is a wildcard, no list of addresses holds it"))
                    }
                    gap => (
                        &loss::NO_ADDRESS,
                        format!("{key}: {name} has no address of one family or both in the lock: {}", gap.why()),
                    ),
                },
            };
            losses.push(Loss::of(rule, kind, text).endpoint(name));
        }
    }
    losses.extend(loss::names_by_address(ruleset));
    // The same for every target by address, so that it is said once.
    not_in_lock.sort();
    not_in_lock.dedup();
    if let Some((first, rest)) = not_in_lock.split_first() {
        let more = match rest.len() {
            0 => " is".to_owned(),
            n => format!(" and {n} more are"),
        };
        findings.push(
            Diagnostic::new(Code::NotInLock, format!("`{first}`{more} not in the lock"))
                .help("rules by address need a lock: run `outgate resolve`, or `outgate generate --resolve`, and commit `outgate.lock`"),
        );
    }
    crate::ruleset::lists_opened(ruleset, findings);
    crate::ruleset::one_family(ruleset, findings);
    crate::ruleset::sharing::report(ruleset, findings);
    losses
}

/// What a target that goes by name must know: the hosts that services select. Returns what it lacks.
fn name_losses<'a>(target: &str, rules: impl IntoIterator<Item = &'a Rule>, findings: &mut Findings) -> Vec<Loss> {
    let mut losses = Vec::new();
    for rule in rules {
        for destination in rule.destinations.iter().filter(|d| d.names().is_empty()) {
            let Some(gap) = destination.gap.as_deref() else { continue };
            match (rule.action, gap) {
                (_, Gap::Denied(_) | Gap::Proxied(_) | Gap::Dropped(_)) | (Action::Deny, Gap::NoAddress(_)) => {}
                (Action::Deny, Gap::NotInLock | Gap::Unanswered(_) | Gap::Wildcard) => {
                    findings.push(missed_denial(target, rule, destination));
                }
                (Action::Allow, Gap::NotInLock | Gap::Unanswered(_) | Gap::NoAddress(_) | Gap::Wildcard) => {
                    let text = format!("{}: {}: {}", rule.key, destination.endpoint, gap.about_service());
                    losses.push(Loss::of(rule, &loss::SERVICE_WITHOUT_HOSTS, text).endpoint(&destination.endpoint));
                }
            }
        }
    }
    losses
}

/// A denial for clients that nothing else limits, which the target cannot make: leaving it out would let it through.
fn missed_denial(target: &str, rule: &Rule, destination: &Destination) -> Diagnostic {
    let why = match destination.gap.as_deref() {
        Some(Gap::Wildcard) => "a wildcard, which no list of addresses holds".to_owned(),
        Some(Gap::Unanswered(why)) => format!("not fully known ({why})"),
        Some(Gap::NotInLock) => "a service whose hosts are not in the lock".to_owned(),
        _ => "not known".to_owned(),
    };
    let message = format!("{target}: `{}` ({}) is to be blocked, but it is {why}", destination.endpoint, rule.key);
    Diagnostic::new(Code::Inexpressible, message)
        .at(rule.callout.span.clone(), "")
        .help("run `outgate resolve` again, block it by name at a proxy or DNS server and `leave-out` this entry, or take `admin` out of `clients`")
}

/// Vendors' lists of prefixes stand in for what DNS may answer. They have no part where somebody asks DNS as he goes, or
/// where names alone are held.
fn lists_left_out(why: &str, help: &'static str, ruleset: &Ruleset) -> Vec<Loss> {
    let used = ruleset.lists.iter().filter(|(id, _)| ruleset.rules.iter().any(|rule| rule.lists().contains(id)));
    let loss = used.map(|(id, list)| {
        let text = format!("list {id} is left out: {why}");
        Loss { place: Some(list.span.clone()), help: Some(help), ..Loss::general(&loss::LIST_LEFT_OUT, text) }
    });
    loss.collect()
}

/// Without answers nobody knows which names lie on one address, and a target that opens addresses opens both.
fn sharing_unknown(ruleset: &Ruleset) -> Option<Loss> {
    let text = "without a lock nobody knows whether a blocked and an allowed name share an address";
    let unknown = ruleset.answered.is_none() && ruleset.rules.iter().any(|rule| rule.action == Action::Deny);
    unknown.then(|| Loss::general(&loss::SHARING_UNKNOWN, text.to_owned()))
}

/// Why a target on the appliance itself has no part in what the administrator's browser sends.
const BROWSER_ELSEWHERE: &str = "on the appliance itself the administrator's browser is never seen";

/// Whether a rule is about the administrator's browser alone.
fn is_browsers(ruleset: &Ruleset, rule: &Rule) -> bool {
    ruleset.bound(rule).iter().all(|origin| origin == Origin::Browser)
}

/// A target on the appliance itself never sees the administrator's browser. Returns the rules it does see.
fn seen_on_host<'a>(
    texts: &'a Texts<'_>,
    on_host: bool,
    losses: &mut Vec<Loss>,
) -> impl Iterator<Item = (&'a Rule, RuleTexts<'a>)> {
    let ruleset = texts.ruleset;
    let unseen = move |rule: &Rule| on_host && is_browsers(ruleset, rule);
    losses.extend(ruleset.rules.iter().filter(|rule| rule.action == Action::Deny && unseen(rule)).map(|rule| {
        let text = format!("{}: the browser of the administrator is never seen on the appliance itself", rule.key);
        Loss { origin: Some(Origin::Browser), ..Loss::of(rule, &loss::BROWSER_UNSEEN, text) }
    }));
    texts.rules().filter(move |(rule, _)| !unseen(rule))
}

/// A name of at most `max` characters: cut and told apart by a hash where it is longer.
fn fit(name: &str, max: usize) -> String {
    if name.len() <= max { name.to_owned() } else { format!("{}_{}", &name[..max - 7], &sha256(name)[..6]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(template: &str, value: &str) -> Result<String, Error> {
        environment().render_str(template, minijinja::context! { value })
    }

    #[test]
    fn the_guard_refuses_what_could_become_a_rule() {
        for hostile in ["a\n}\nflush ruleset", "a\"b", "a'b", "a\\", "a\rb", "a\u{202e}b", "\0", "`id`", "a\u{2028}b"] {
            for template in ["{{ value }}", "{{ 'x' ~ value }}", "{{ [value] | join(',') }}", "{{ value | upper }}"] {
                assert!(print(template, hostile).is_err(), "{template} printed {hostile:?}");
            }
        }
        for hostile in ["\n\"flush ruleset", "\n", "\t\n", "#\t"] {
            assert!(print("{{ 'a' | block(value) }}", hostile).is_err(), "block began with {hostile:?}");
        }
        for hostile in ["a\"b", "x\na\"b", "a\rb", "a\u{85}b", "a\\nb"] {
            for filter in ["block", "escaped_lines"] {
                let template = format!("{{{{ value | {filter} }}}}");
                assert!(print(&template, hostile).is_err(), "{filter} printed {hostile:?}");
            }
        }
        assert_eq!(print("{{ value | escaped_lines }}", "a\nb").unwrap(), "a\\nb");
        assert_eq!(print("{{ value | block('  ') }}", "a\nb").unwrap(), "  a\n  b");
        assert_eq!(print("{{ value | block('\t# ') }}", "a\nb").unwrap(), "\t# a\n\t# b");
    }

    fn fill(body: &str, cell: &str) -> Result<String, Error> {
        let mut rows = rows::Rows::new(&["id", "names"]);
        rows.push([&"a", &cell]);
        rows.push([&"b", &"x"]);
        let rows = Value::from_object(rows.done());
        let template = format!("{{% filter fill(rows, id=value) %}}{body}{{% endfilter %}}");
        environment().render_str(&template, minijinja::context! { rows, value => "x\ny" })
    }

    #[test]
    fn rows_are_filled_and_looped_over() {
        let mut rows = rows::Rows::new(&["id", "names"]);
        rows.push([&"a", &"1\n2"]);
        rows.push([&"b", &"3"]);
        let rows = Value::from_object(rows.done());
        for (template, text) in [
            ("{% filter fill(rows) %}[[id]]: [[names*]]\n{% endfilter %}", "a: 1\na: 2\nb: 3\n"),
            ("{% for row in rows %}{{ row.id }} {{ row['names'] | block('- ') }};{% endfor %}", "a - 1\n- 2;b - 3;"),
            ("{{ rows | length }} {{ rows[1].id }} {% if rows %}some{% endif %}", "2 b some"),
            (
                "{% set texts %}none\n{{ 1 }}\n2\n\"3\"{% endset %}{% filter fill(rows, names=texts) %}[[names*]] {% endfilter %}",
                "1 2 \"3\" ",
            ),
        ] {
            assert_eq!(
                environment().render_str(template, minijinja::context! { rows => &rows }).unwrap(),
                text,
                "{template}"
            );
        }
        for template in ["{{ rows }}", "{{ rows[0] }}", "{{ rows[2] }}", "{{ rows[0].nothing }}", "{{ rows.id }}"] {
            assert!(environment().render_str(template, minijinja::context! { rows => &rows }).is_err(), "{template}");
        }
    }

    #[test]
    fn the_guard_looks_at_every_row() {
        for hostile in ["a\"b", "x\na'b", "a\rb", "a\u{85}b", "a\\nb", "a\u{202e}b"] {
            for body in ["[[names*]]\n", "[[id]]\n", "[[names\\n]]"] {
                let error = fill(body, hostile).unwrap_err().to_string();
                assert!(error.contains("refusing to write"), "{body} printed {hostile:?}: {error}");
            }
        }
        assert!(fill("[[names]]", "flush\nruleset").unwrap_err().to_string().contains("several lines"));
        assert_eq!(fill("# [[names*]]\n", "flush\nruleset").unwrap(), "# flush\n# ruleset\n# x\n");
        // What a value brings into the body, or into the texts, is looked at as well.
        for template in [
            "{{ 'a\\nb' ~ value | fill(rows) }}",
            "{{ value | fill(rows) }}",
            "{% filter fill(rows) %}{{ value }}{% endfilter %}",
            "{% filter fill(rows, id=value) %}[[id]]{% endfilter %}",
            "{% filter fill(value) %}x{% endfilter %}",
            "{% filter fill(nothing) %}x{% endfilter %}",
            "{{ rows | fill(rows) }}",
            "{{ ('[[id]]' | fill(rows)) ~ value }}",
            "{{ 'x\ny[[id]]' | fill(rows) ~ '' }}",
        ] {
            let mut rows = rows::Rows::new(&["id"]);
            rows.push([&"0"]);
            let rows = Value::from_object(rows.done());
            let printed =
                environment().render_str(template, minijinja::context! { rows, value => "x\n\"flush ruleset" });
            assert!(printed.is_err(), "{template}: {printed:?}");
        }
    }

    #[test]
    fn there_is_no_way_around_the_guard() {
        for template in
            ["{{ value | safe }}", "{{ none }}", "{{ true }}", "{{ [value] }}", "{{ nothing }}", "{{ value.nothing }}"]
        {
            assert!(print(template, "a").is_err(), "{template} was printed");
        }
        for template in
            ["{% autoescape false %}{{ value }}{% endautoescape %}", "{% set v %}{{ value }}{% endset %}{{ v }}"]
        {
            assert!(print(template, "a\"b").is_err(), "{template} went around the guard");
        }
    }
}
