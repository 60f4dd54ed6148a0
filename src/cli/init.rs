//! `outgate init`

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser as _};

use super::prompt::{Prompt, Question};
use super::{Cli, Run, Stop, Verb, apply, generate, resolve};
use crate::addrs::parse_prefix;
use crate::callout::{Endpoint, Origin};
use crate::catalog::{Catalog, KnownRelease};
use crate::diagnostic::{Code, Diagnostic, Findings, Severity, suggest};
use crate::files;
use crate::init::{self, Answers, Choice, Server};
use crate::policy;
use crate::port::Port;
use crate::profile;
use crate::report;
use crate::settings::OpnsenseVersion;
use crate::source::Sources;
use crate::target::{TARGETS, Target};
use crate::text::{Text, quoted};

#[derive(Args)]
pub(super) struct Init {
    /// The profile to write; it must not be there yet
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "outgate.yaml")]
    config: PathBuf,
    /// The site's name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The release the system runs, such as 24.10, 25.10.2 or 13.3-U1.2
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// An address or prefix of the NAS; may be given several times
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    nas: Vec<String>,
    /// An address or prefix the administrator's browser is at, or `none`
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    admin: Vec<String>,
    /// An address or prefix of the jails, or `none`
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    jails: Vec<String>,
    /// A feature in use, or `none`
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    feature: Vec<String>,
    /// A server of your own by kind, such as dns=192.0.2.53 or mail=mail.example.org:587, or KIND=none
    #[arg(long, value_name = "KIND=HOST")]
    server: Vec<String>,
    /// Where the rules go; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    target: Vec<String>,
    /// The interface the clients are behind (pf, OPNsense, and nftables where they have no IPv6)
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The version of OPNsense
    #[arg(long, value_name = "VERSION")]
    opnsense_version: Option<String>,
    /// What is blocked: usage, error-report, operational, suspected, advised or `none`
    #[arg(long, value_name = "LEVEL", value_delimiter = ',')]
    strict: Vec<String>,
    /// Ask nothing: take the defaults for what no flag answers
    #[arg(short, long)]
    yes: bool,
    /// Write the profile alone
    #[arg(long)]
    no_resolve: bool,
    /// Ask this name server; may be given several times
    #[arg(long, value_name = "ADDR")]
    resolver: Vec<String>,
}

/// Targets that can be begun with; a policy for pods wants labels that nobody can guess.
fn offered() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().copied().filter(|target| target.name != "cilium")
}

pub(super) fn run(run: &mut Run, args: &Init) -> Result<(), Stop> {
    let path = &args.config;
    if path.symlink_metadata().is_ok() {
        let message = format!("{} is there already", path.display());
        let help = "change it in an editor (`outgate schema profile` helps it), or write another with -c FILE";
        return run.stop(Diagnostic::new(Code::BadUsage, message).help(help));
    }
    let Some(name) = path.file_name().and_then(OsStr::to_str) else {
        let message = format!("{} is no name for a profile", path.display());
        return run.stop(Diagnostic::new(Code::BadUsage, message).help("name a file in UTF-8, such as outgate.yaml"));
    };
    let catalog = run.catalog()?;
    let prompt = Prompt::new(args.yes);
    prompt.say(
        "A few questions about one site. Enter takes what stands in [ ]; nothing is written before the last answer.",
    )?;
    let answers = ask(run, &prompt, args, &catalog)?;
    let schema = "profile.schema.json";
    let text = init::text(&answers, &catalog, schema);
    read_back(run, path, &text, &answers, &catalog)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let staged = files::stage(folder, &[(name.to_owned(), text)].into(), &[]);
    // Somebody may have written one while the questions were answered.
    if path.symlink_metadata().is_ok() {
        let message = format!("{} came into being meanwhile", path.display());
        return run.stop(Diagnostic::new(Code::BadUsage, message).help("nothing was written"));
    }
    staged.and_then(files::Staged::commit).or_else(|e| run.stop(resolve::unwritable(&e)))?;
    writeln!(report::terminal::stdout(), "{}", path.display())?;
    if !args.no_resolve && make(run, args, path).is_err() {
        next(run, args, path, &answers, false)?;
        return Err(Stop::Found);
    }
    next(run, args, path, &answers, !args.no_resolve)
}

/// Asks the names and writes the files, as `outgate generate --resolve` does.
fn make(run: &mut Run, args: &Init, path: &Path) -> Result<(), Stop> {
    let mut words: Vec<OsString> = ["outgate", "generate", "--resolve", "--config"].map(OsString::from).into();
    words.push(path.into());
    words.extend(args.resolver.iter().map(|resolver| format!("--resolver={resolver}").into()));
    match Cli::try_parse_from(words).map(|cli| cli.verb) {
        Ok(Verb::Generate(args)) => generate::run(run, &args),
        Ok(_) => Err(Stop::Found),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            run.stop(Diagnostic::new(Code::BadUsage, first.to_owned()))
        }
    }
}

/// What is to be done next, on the router and in git. The commands are those in the heads of the files.
fn next(run: &Run, args: &Init, path: &Path, answers: &Answers, made: bool) -> Result<(), Stop> {
    if run.quiet {
        return Ok(());
    }
    let mut out = report::terminal::stdout();
    let c = if path == Path::new("outgate.yaml") { String::new() } else { format!(" -c {}", path.display()) };
    writeln!(out, "\nNext:")?;
    if !made {
        let where_from = if args.no_resolve { "" } else { ", where name servers can be reached" };
        writeln!(out, "- outgate resolve{c}{where_from}: asks the names and writes outgate.lock")?;
        writeln!(out, "- outgate generate{c}: writes the files below out/")?;
    }
    writeln!(out, "- read {}, outgate.lock and out/, then commit them: they are reviewed like code", path.display())?;
    let folder = path.parent().unwrap_or(Path::new("")).join("out");
    for target in TARGETS.iter().filter(|target| answers.targets.contains_key(target.name)) {
        let main = folder.join(target.name).join(target.main);
        let steps = folder.join(target.name).join("apply.md");
        // Where nothing was written yet, a file without a head has its steps beside it all the same.
        if steps.is_file() || main.extension().is_some_and(|ending| ending == "json") {
            writeln!(out, "- {}: {} has the steps, with the way back", target.name, steps.display())?;
            continue;
        }
        writeln!(out, "- {}: copy {} to it; its head says more", target.name, main.display())?;
        if apply::loads(target.name) {
            writeln!(
                out,
                "    or on the machine itself, taken back unless you confirm: outgate apply {}{c}",
                target.name
            )?;
        }
        for line in commands(&std::fs::read_to_string(&main).unwrap_or_default()) {
            writeln!(out, "    {line}")?;
        }
    }
    writeln!(
        out,
        "- every few days: outgate resolve{c}, outgate generate{c}, git diff; `outgate status{c}` says when it is due"
    )?;
    writeln!(out, "- in CI: outgate check{c}")?;
    writeln!(out, "- for your editor: outgate schema profile > profile.schema.json")?;
    Ok(())
}

/// The commands in the head of a file: comments that begin with what they do.
fn commands(text: &str) -> Vec<String> {
    let head = text.lines().skip_while(|line| line.starts_with("#!")).map_while(|line| line.strip_prefix('#'));
    let is_one = |line: &&str| {
        let lower = line.to_lowercase();
        ["check:", "load:", "refresh:", "remove:"].iter().any(|word| lower.starts_with(word))
    };
    head.map(str::trim).filter(is_one).map(str::to_owned).collect()
}

/// Reads the profile as the program will, before it is written. What it says must be what was answered.
fn read_back(run: &mut Run, path: &Path, text: &str, answers: &Answers, catalog: &Catalog) -> Result<(), Stop> {
    let id = run.sources.add(path.display().to_string(), text);
    let mut found = Findings::default();
    let profile = profile::read(&run.sources, id, &catalog.known(false), &mut found);
    let policy = profile.as_ref().and_then(|profile| policy::decide(catalog, profile, &mut found));
    let same = profile.as_ref().is_some_and(|profile| {
        let words: Vec<&String> = profile.features.iter().map(|word| &word.value).collect();
        let kinds: Vec<&String> = profile.servers.iter().map(|(kind, _)| &kind.value).collect();
        profile.site.as_str() == answers.site
            && profile.release.value == answers.release
            && words == answers.features.iter().collect::<Vec<_>>()
            && kinds == answers.servers.keys().collect::<Vec<_>>()
            && TARGETS.iter().all(|t| (t.chosen)(&profile.settings) == answers.targets.contains_key(t.name))
    });
    if policy.is_some() && same {
        return Ok(());
    }
    run.findings.extend(found.iter().filter(|finding| finding.severity() == Severity::Error).cloned());
    let diagnostic = Diagnostic::new(Code::BadUsage, "these answers make no profile: nothing was written");
    run.stop(diagnostic.help("run `outgate init` again with other answers"))
}

/// Words of an answer: by commas or blanks. `none` is none.
fn words(answer: &str) -> Vec<String> {
    let words = answer.split([',', ' ', '\t']).filter(|word| !word.is_empty() && *word != "none");
    words.map(str::to_owned).collect()
}

fn given(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(" "))
}

/// Takes an answer from a flag where there is one, and asks otherwise.
fn take<T>(
    run: &mut Run,
    prompt: &Prompt,
    flag: Option<String>,
    question: &Question<'_>,
    check: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Stop> {
    match flag {
        None => prompt.ask(run, question, check),
        Some(answer) => check(&answer).or_else(|why| {
            let message = format!("{} `{}`: {why}", question.flag, quoted(&answer));
            run.stop(Diagnostic::new(Code::BadUsage, message))
        }),
    }
}

fn is_v6(addresses: &[String]) -> bool {
    addresses.iter().any(|address| address.contains(':'))
}

fn is_v4(addresses: &[String]) -> bool {
    addresses.iter().any(|address| !address.contains(':'))
}

/// Addresses of other clients than the NAS: in both families where it has both, or the one that is not named would get
/// around the rules.
fn in_step(answer: &str, nas: &[String]) -> Result<Vec<String>, String> {
    let list = addresses(answer)?;
    if !list.is_empty() && is_v6(nas) && !is_v6(&list) {
        return Err("the NAS has IPv6 here, so name the IPv6 addresses of these too".to_owned());
    }
    if !list.is_empty() && !is_v4(&list) {
        return Err("name their IPv4 addresses too, or IPv4 would not be limited at all".to_owned());
    }
    Ok(list)
}

fn addresses(answer: &str) -> Result<Vec<String>, String> {
    let list = words(answer);
    match list.iter().find_map(|word| parse_prefix(word).err().map(|error| format!("`{}` {error}", quoted(word)))) {
        Some(why) => Err(why),
        None => Ok(list),
    }
}

/// The words of an answer that must be among those that are known.
fn known(answer: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let mut list = words(answer);
    // A list that is shown can be answered by its numbers.
    for word in &mut list {
        if let Some(name) = word.parse::<usize>().ok().and_then(|n| known.get(n.checked_sub(1)?)) {
            *word = (*name).to_owned();
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|word| seen.insert(word.clone()));
    match list.iter().find(|word| !known.contains(&word.as_str())) {
        Some(word) => Err(format!("there is no `{}`: {}", quoted(word), suggest(word, known))),
        None => Ok(list),
    }
}

fn ask(run: &mut Run, prompt: &Prompt, args: &Init, catalog: &Catalog) -> Result<Answers, Stop> {
    let mut answers = Answers { site: site(run, prompt, args)?, ..Answers::default() };
    answers.release = release(run, prompt, args, catalog)?;
    let release = catalog
        .release(&answers.release)
        .or_else(|(message, help)| run.stop(Diagnostic::new(Code::BadRelease, message).help(help)))?;
    clients(run, prompt, args, &mut answers)?;
    answers.features = features(run, prompt, args, &init::features(catalog, &release))?;
    jails(run, prompt, args, catalog, &release, &mut answers)?;
    servers(run, prompt, args, catalog, &release, &mut answers)?;
    targets(run, prompt, args, catalog, &mut answers)?;
    answers.strict = strict(run, prompt, args, catalog, &release)?;
    Ok(answers)
}

fn site(run: &mut Run, prompt: &Prompt, args: &Init) -> Result<String, Stop> {
    let folder = args.config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let here = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    let default = here.filter(|name| crate::workspace::is_folder(name)).unwrap_or_else(|| "my-site".to_owned());
    let question = Question {
        ask: "What is this site called?",
        about: vec!["The name stands at the head of each file, and tells this site from others.".to_owned()],
        default: Some(default),
        flag: "--name",
    };
    take(run, prompt, args.name.clone(), &question, |answer| {
        Text::parse(answer).map(|_| answer.to_owned()).map_err(|error| format!("it {error}"))
    })
}

fn release(run: &mut Run, prompt: &Prompt, args: &Init, catalog: &Catalog) -> Result<String, Stop> {
    let lines: Vec<&str> = catalog.lines.iter().map(|line| line.release.as_str()).collect();
    let newest = catalog.lines.iter().rfind(|line| line.released.is_some());
    let question = Question {
        ask: "Which release does the system run?",
        about: vec![
            "Each release contacts other hosts. The web interface shows it on its dashboard.".to_owned(),
            format!("Known: {}, each with its point releases, such as 25.10.2.", lines.join(", ")),
        ],
        default: newest.map(|line| line.last.0.to_string()),
        flag: "--release",
    };
    take(run, prompt, args.release.clone(), &question, |answer| match catalog.release(answer) {
        Ok(_) => Ok(answer.to_owned()),
        Err((message, help)) => Err(format!("{message}; {help}")),
    })
}

fn clients(run: &mut Run, prompt: &Prompt, args: &Init, answers: &mut Answers) -> Result<(), Stop> {
    let question = Question {
        ask: "Which addresses does the NAS have?",
        about: vec![
            "Rules are for these and no others. Name every address it sends from, IPv4 and IPv6, such as 192.0.2.10 2001:db8::10."
                .to_owned(),
            "With IPv4 alone, all IPv6 from its interface is denied (`ipv6: deny-interface`): it would get around the rules."
                .to_owned(),
        ],
        default: None,
        flag: "--nas",
    };
    let some = |answer: &str| match addresses(answer)? {
        list if list.is_empty() => Err("rules need an address to be for".to_owned()),
        list if !is_v4(&list) => Err("name its IPv4 addresses too, or IPv4 would not be limited at all".to_owned()),
        list => Ok(list),
    };
    answers.nas = take(run, prompt, given(&args.nas), &question, some)?;
    let question = Question {
        ask: "From which addresses is the web interface used?",
        about: vec![
            "The browser there sends telemetry of its own. It is denied what you block, and nothing else is touched."
                .to_owned(),
        ],
        default: Some(String::new()),
        flag: "--admin",
    };
    answers.admin = take(run, prompt, given(&args.admin), &question, |answer| in_step(answer, &answers.nas))?;
    // The NAS decides: by IPv6 of its own or by none.
    answers.deny_ipv6 = !is_v6(&answers.nas);
    Ok(())
}

/// Addresses of jails, where what is in use has any.
fn jails(
    run: &mut Run,
    prompt: &Prompt,
    args: &Init,
    catalog: &Catalog,
    release: &KnownRelease<'_>,
    answers: &mut Answers,
) -> Result<(), Stop> {
    if init::has_origin(catalog, release, &answers.features, Origin::Jail) || !args.jails.is_empty() {
        let question = Question {
            ask: "Which addresses do jails have?",
            about: vec!["Jails with addresses of their own are clients of their own.".to_owned()],
            default: Some(String::new()),
            flag: "--jails",
        };
        answers.jails = take(run, prompt, given(&args.jails), &question, |answer| in_step(answer, &answers.nas))?;
    }
    Ok(())
}

fn features(run: &mut Run, prompt: &Prompt, args: &Init, choices: &[Choice<'_>]) -> Result<Vec<String>, Stop> {
    let names: Vec<&str> = choices.iter().map(|choice| choice.id.as_str()).collect();
    let usual: Vec<&str> = choices.iter().filter(|c| c.feature.usual).map(|c| c.id.as_str()).collect();
    let mut about = vec![
        "What is in use is let out, and nothing else. For each: how many hosts it leads to, how many of its callouts are telemetry, and what is lost without it."
            .to_owned(),
    ];
    for (number, choice) in (1..).zip(choices) {
        let s = if choice.hosts == 1 { "" } else { "s" };
        let hosts =
            if choice.hosts == 0 { "servers of your own".to_owned() } else { format!("{} host{s}", choice.hosts) };
        let telemetry = if choice.telemetry == 0 { String::new() } else { format!(", {} telemetry", choice.telemetry) };
        let (id, title, cost) = (choice.id, &choice.feature.title, &choice.cost);
        about.push(format!("{number:>3} {id}: {title} ({hosts}{telemetry}); without: {cost}"));
    }
    let question = Question {
        ask: "Which of these are in use? Names or numbers; usual for those in [ ]; or none.",
        about,
        default: Some(usual.join(" ")),
        flag: "--feature",
    };
    take(run, prompt, given(&args.feature), &question, |answer| {
        // Whoever wants one more need not name all.
        let answer: Vec<String> =
            words(answer).iter().map(|word| if word == "usual" { usual.join(" ") } else { word.clone() }).collect();
        known(&answer.join(" "), &names)
    })
}

fn servers(
    run: &mut Run,
    prompt: &Prompt,
    args: &Init,
    catalog: &Catalog,
    release: &KnownRelease<'_>,
    answers: &mut Answers,
) -> Result<(), Stop> {
    let mut flags: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for flag in &args.server {
        let Some((kind, host)) = flag.split_once('=') else {
            let message = format!("--server `{}` is no KIND=HOST", quoted(flag));
            return run.stop(Diagnostic::new(Code::BadUsage, message).help("write --server dns=192.0.2.53"));
        };
        flags.entry(kind).or_default().push(host.to_owned());
    }
    let slots = init::slots(catalog, release, &answers.features);
    // Of the base system those that most sites have; the others are for a feature.
    let asked = |slot: &&init::Slot<'_>| slot.needed || matches!(slot.id.as_str(), "dns" | "ntp" | "mail" | "syslog");
    for slot in slots.iter().filter(asked) {
        let about = match slot.id.as_str() {
            "dns" => "Name the servers the NAS asks, unless they are on its own segment: then their packets never meet the rules.".to_owned(),
            _ if slot.needed => format!("{}: a feature in use goes to servers of your own.", slot.title),
            _ => format!("{}: yours take the place of those the vendor names.", slot.title),
        };
        let ask = format!("Which {} servers? HOST or HOST:PORT.", slot.id);
        let question =
            Question { ask: &ask, about: vec![about], default: (!slot.needed).then(String::new), flag: "--server" };
        let flag = flags.remove(slot.id.as_str()).as_deref().and_then(given);
        let list = take(run, prompt, flag, &question, |answer| {
            let list: Result<Vec<Server>, String> =
                words(answer).iter().map(|word| server(word, &slot.ports)).collect();
            match list? {
                list if list.is_empty() && slot.needed => Err("a feature in use needs one".to_owned()),
                list => Ok(list),
            }
        })?;
        if !list.is_empty() {
            answers.servers.insert(slot.id.to_string(), list);
        }
    }
    for (kind, hosts) in flags {
        let kinds: Vec<&str> = catalog.slots().into_iter().map(|id| id.as_str()).collect();
        if !kinds.contains(&kind) {
            let message = format!("there is no kind of server `{}`", quoted(kind));
            return run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(kind, &kinds)));
        }
        let ports = catalog.callouts.values().find(|c| c.slot.as_ref().is_some_and(|slot| slot.as_str() == kind));
        let ports = ports.map(|callout| callout.ports.clone()).unwrap_or_default();
        match words(&hosts.join(" ")).iter().map(|word| server(word, &ports)).collect::<Result<Vec<_>, _>>() {
            Ok(list) if list.is_empty() => {}
            Ok(list) => _ = answers.servers.insert(kind.to_owned(), list),
            Err(why) => return run.stop(Diagnostic::new(Code::BadUsage, format!("--server {}: {why}", quoted(kind)))),
        }
    }
    Ok(())
}

/// A server and perhaps its port, of the protocol its kind is spoken in.
fn server(word: &str, ports: &[Port]) -> Result<Server, String> {
    let (host, number) = match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
        None if word.matches(':').count() == 1 => word.split_once(':').map_or((word, None), |(h, p)| (h, Some(p))),
        None => (word, None),
    };
    match Endpoint::parse(host) {
        Ok(Endpoint::Name(crate::host::NamePattern::Exact(_)) | Endpoint::Net(_)) => {}
        Ok(_) => return Err(format!("`{}` is no single host", quoted(host))),
        Err((_, message)) => return Err(message),
    }
    let protocol =
        ports.first().map_or("tcp".to_owned(), |port| port.to_string().rsplit('/').next().unwrap_or("tcp").to_owned());
    let port =
        number.map(|number| if number.contains('/') { number.to_owned() } else { format!("{number}/{protocol}") });
    match port.as_deref().map(Port::parse) {
        Some(Err(error)) => Err(format!("the port `{}` {error}", quoted(number.unwrap_or_default()))),
        _ => Ok(Server { host: host.to_owned(), port }),
    }
}

fn targets(run: &mut Run, prompt: &Prompt, args: &Init, catalog: &Catalog, answers: &mut Answers) -> Result<(), Stop> {
    let names: Vec<&str> = offered().map(|target| target.name).collect();
    let mut about = vec![
        "Rules are written for these. A packet filter goes by address, a proxy by name; name servers help both."
            .to_owned(),
    ];
    for (number, target) in (1..).zip(offered()) {
        about.push(format!("{number:>3} {}: {}", target.name, target.about));
    }
    let question = Question {
        ask: "Where do the rules go? Names or numbers.",
        about,
        default: Some("nftables".to_owned()),
        flag: "--target",
    };
    let some = |answer: &str| match known(answer, &names)? {
        list if list.is_empty() => Err("without a target there are no rules".to_owned()),
        list => Ok(list),
    };
    for name in take(run, prompt, given(&args.target), &question, some)? {
        answers.targets.insert(name, Vec::new());
    }
    let deny_ipv6 = answers.deny_ipv6;
    for (name, settings) in &mut answers.targets {
        if name == "opnsense" {
            let versions: Vec<&str> = OpnsenseVersion::NAMES.iter().map(|(name, _)| *name).collect();
            let question = Question {
                ask: "Which version of OPNsense?",
                about: vec![format!("It decides what the rules look like: {}.", versions.join(", "))],
                default: versions.last().map(|version| (*version).to_owned()),
                flag: "--opnsense-version",
            };
            let version = take(run, prompt, args.opnsense_version.clone(), &question, |answer| {
                of_target(catalog, "opnsense", &[("version", answer.to_owned()), ("interface", "lan".to_owned())])
                    .map(|()| answer.to_owned())
            })?;
            settings.push(("version", version));
        }
        if name == "pf" || name == "opnsense" || name == "nftables" && deny_ipv6 {
            let (example, why) = match name.as_str() {
                "opnsense" => ("lan", "its key as Interfaces > Assignments shows it in brackets, not its description"),
                "pf" => ("em1", "rules hold where packets come in by it"),
                _ => ("lan0", "all other IPv6 that comes in by it is denied"),
            };
            let ask = format!("Which interface of the {name} router is the NAS behind?");
            let question = Question {
                ask: &ask,
                about: vec![format!("Such as {example}: {why}.")],
                default: (name == "opnsense").then(|| "lan".to_owned()),
                flag: "--interface",
            };
            let before = settings.clone();
            let interface = take(run, prompt, args.interface.clone(), &question, |answer| {
                let all: Vec<_> = before.iter().cloned().chain([("interface", answer.to_owned())]).collect();
                of_target(catalog, name, &all).map(|()| answer.to_owned())
            })?;
            settings.push(("interface", interface));
        }
    }
    Ok(())
}

/// Whether a target's settings are good, by the profile's own reader.
fn of_target(catalog: &Catalog, name: &str, settings: &[(&'static str, String)]) -> Result<(), String> {
    let mut answers = Answers {
        site: "a".to_owned(),
        release: "25.10".to_owned(),
        nas: vec!["192.0.2.10".to_owned()],
        ..Answers::default()
    };
    answers.targets.insert(name.to_owned(), settings.to_vec());
    let (mut sources, mut found) = (Sources::default(), Findings::default());
    let id = sources.add("", init::text(&answers, catalog, ""));
    let _ = profile::read(&sources, id, &catalog.known(false), &mut found);
    match found.iter().find(|finding| finding.severity() == Severity::Error) {
        None => Ok(()),
        Some(error) => Err(match &error.help {
            Some(help) => format!("{}; {help}", error.message),
            None => error.message.clone(),
        }),
    }
}

fn strict(
    run: &mut Run,
    prompt: &Prompt,
    args: &Init,
    catalog: &Catalog,
    release: &KnownRelease<'_>,
) -> Result<Vec<String>, Stop> {
    let levels = init::levels(catalog, release);
    let names: Vec<&str> = levels.iter().map(|level| level.word).collect();
    let mut about = vec!["What is blocked before every allow. Levels add up; each can be taken back later.".to_owned()];
    for (number, level) in (1..).zip(&levels) {
        let s = if level.blocks == 1 { "" } else { "s" };
        let what = level.about.trim_end_matches('.');
        about.push(format!(
            "{number:>3} {}: {what} ({} callout{s} of this release); costs: {}",
            level.word, level.blocks, level.cost
        ));
    }
    let question = Question {
        ask: "What is to be blocked? Names or numbers.",
        about,
        default: Some(String::new()),
        flag: "--strict",
    };
    take(run, prompt, given(&args.strict), &question, |answer| known(answer, &names))
}
