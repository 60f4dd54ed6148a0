//! What is on the firewall and no longer in the files: OPNsense removes nothing by itself, so somebody must be told.
//!
//! The files of the earlier run say what was put there. They lie where people edit and merge, so a file that cannot be
//! read as it was written is searched for whatever still looks like one of ours.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::target::File;
use crate::text::forbidden;

/// The list, beside the files it is about.
pub(super) const PATH: &str = "retired.json";

const FORMAT_VERSION: u32 = 1;
/// What to do with the list, for whoever finds it without the page that lies beside it.
const ABOUT: &str = "On the firewall, and no longer in the files. Delete these rules, apply, delete these aliases, \
                     apply, then delete this file.";

/// What a rule does of which nothing but its UUID could be read.
const UNKNOWN: &str = "unknown";

/// Rules and aliases that an earlier run wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// By UUID.
    rules: BTreeMap<String, Rule>,
    /// Description by name: the UUID of an alias is OPNsense's own.
    aliases: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    action: String,
    description: String,
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: u32,
    about: &'static str,
    rules: Vec<RuleText<'a>>,
    aliases: Vec<AliasText<'a>>,
}

#[derive(Serialize)]
struct RuleText<'a> {
    uuid: &'a str,
    action: &'a str,
    description: &'a str,
}

#[derive(Serialize)]
struct AliasText<'a> {
    name: &'a str,
    description: &'a str,
}

/// What was in the old files or in the old list and is not in the new files, as a file; `None` when that is nothing.
/// The same old and new files give the same list, and the list of a list is itself.
pub(super) fn retire(old: &BTreeMap<String, String>, new: &[File], findings: &mut Findings) -> Option<File> {
    let mut gone = Known::default();
    // The list first: what an old file still says of an entry is newer.
    for path in [PATH, "rules.json", "rules.csv", "aliases.json"] {
        let Some(text) = old.get(path) else { continue };
        // Nothing is gone from a file that stays as it is.
        if path != PATH && new.iter().any(|file| file.path == path && file.text == *text) {
            continue;
        }
        let known = read(path, text).unwrap_or_else(|| {
            findings.push(
                Diagnostic::new(Code::RetiredUnsure, format!("opnsense: {path} of the earlier run is not as it was written"))
                    .help("what still looks like a rule or an alias in it was taken; restore it from git and run again, or compare the firewall with the new files by hand"),
            );
            search(path, text)
        });
        gone.rules.extend(known.rules);
        gone.aliases.extend(known.aliases);
    }
    if gone == Known::default() {
        return None;
    }
    let now: Vec<Known> = new.iter().filter_map(|file| read(&file.path, &file.text)).collect();
    gone.rules.retain(|uuid, _| !now.iter().any(|known| known.rules.contains_key(uuid)));
    gone.aliases.retain(|name, _| !now.iter().any(|known| known.aliases.contains_key(name)));
    if gone == Known::default() {
        return None;
    }
    let open = gone.rules.values().filter(|rule| matches!(rule.action.as_str(), "pass" | UNKNOWN)).count();
    findings.push(
        Diagnostic::new(
            Code::Retired,
            format!(
                "opnsense: {} and {} are no longer in the files and stay on the firewall until somebody deletes them; {open} of the rules let something out or may",
                count(gone.rules.len(), "rule"),
                count(gone.aliases.len(), "alias"),
            ),
        )
        .help("they stand in opnsense/retired.json: delete them on the firewall, then delete that file"),
    );
    Some(File { path: PATH.to_owned(), text: gone.print() })
}

fn count(n: usize, what: &str) -> String {
    match (n, what) {
        (1, what) => format!("1 {what}"),
        (n, "alias") => format!("{n} aliases"),
        (n, what) => format!("{n} {what}s"),
    }
}

impl Known {
    fn print(&self) -> String {
        let rules = self.rules.iter().map(|(uuid, rule)| RuleText {
            uuid,
            action: &rule.action,
            description: &rule.description,
        });
        // Backwards, `OG_x` comes before `OGH_x` and `OGN_x`: a group before its members, which cannot go before it.
        let aliases = self.aliases.iter().rev().map(|(name, description)| AliasText { name, description });
        let document = Document {
            format_version: FORMAT_VERSION,
            about: ABOUT,
            rules: rules.collect(),
            aliases: aliases.collect(),
        };
        // Texts under names that are texts: there is nothing in it that JSON could not hold.
        serde_json::to_string_pretty(&document).map(|text| text + "\n").unwrap_or_default()
    }

    /// Takes a rule in; false when it cannot be one of ours.
    fn rule(&mut self, uuid: &str, action: &str, description: &str) -> bool {
        let rule = Rule { action: action.to_owned(), description: description.to_owned() };
        let ours = is_uuid(uuid) && matches!(action, "pass" | "reject" | "block" | UNKNOWN) && is_description(description);
        ours && self.rules.insert(uuid.to_owned(), rule).is_none()
    }

    fn alias(&mut self, name: &str, description: &str) -> bool {
        let ours = is_name(name) && is_description(description);
        ours && self.aliases.insert(name.to_owned(), description.to_owned()).is_none()
    }
}

/// What a file of ours says; `None` when it is not as we write it.
fn read(path: &str, text: &str) -> Option<Known> {
    let mut known = Known::default();
    match path {
        "aliases.json" => {
            #[derive(Deserialize)]
            struct Import {
                aliases: Aliases,
            }
            #[derive(Deserialize)]
            struct Aliases {
                alias: BTreeMap<String, Alias>,
            }
            let import: Import = serde_json::from_str(text).ok()?;
            import.aliases.alias.values().all(|a| known.alias(&a.name, &a.description)).then_some(known)
        }
        "rules.json" => {
            #[derive(Deserialize)]
            struct Rules {
                rules: Vec<Row>,
            }
            #[derive(Deserialize)]
            struct Row {
                uuid: String,
                rule: Body,
            }
            #[derive(Deserialize)]
            struct Body {
                action: String,
                description: String,
            }
            let rules: Rules = serde_json::from_str(text).ok()?;
            rules.rules.iter().all(|r| known.rule(&r.uuid, &r.rule.action, &r.rule.description)).then_some(known)
        }
        "rules.csv" => {
            let mut lines = text.lines();
            let head: Vec<&str> = lines.next()?.split(';').collect();
            let column = |name: &str| head.iter().position(|column| *column == name);
            let (uuid, action, description) = (column("@uuid")?, column("action")?, column("description")?);
            let mut rule = |line: &str| {
                let cells: Vec<&str> = line.split(';').collect();
                cells.len() == head.len() && known.rule(cells[uuid], cells[action], cells[description])
            };
            lines.all(&mut rule).then_some(known)
        }
        PATH => {
            #[derive(Deserialize)]
            struct List {
                format_version: u32,
                rules: Vec<Row>,
                aliases: Vec<Alias>,
            }
            #[derive(Deserialize)]
            struct Row {
                uuid: String,
                action: String,
                description: String,
            }
            let list: List = serde_json::from_str(text).ok()?;
            let good = list.format_version == FORMAT_VERSION
                && list.rules.iter().all(|r| known.rule(&r.uuid, &r.action, &r.description))
                && list.aliases.iter().all(|a| known.alias(&a.name, &a.description));
            good.then_some(known)
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct Alias {
    name: String,
    description: String,
}

/// What still looks like ours in a file that cannot be read: UUIDs as they stand in rules, names as they stand in
/// aliases. Better one too many, which somebody looks for and does not find, than one too few.
fn search(path: &str, text: &str) -> Known {
    let mut known = Known::default();
    let unknown = "from a file that could not be read";
    // The keys in an alias import are labels of ours and no rules.
    if path != "aliases.json" {
        let words = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
        let uuids: BTreeSet<&str> = words.filter(|word| is_uuid(word)).collect();
        let rule = || Rule { action: UNKNOWN.to_owned(), description: unknown.to_owned() };
        known.rules = uuids.into_iter().map(|uuid| (uuid.to_owned(), rule())).collect();
    }
    if path == "aliases.json" || path == PATH {
        let names = text.split("\"name\"").skip(1).filter_map(|rest| {
            let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
            rest.split('"').next().filter(|name| is_name(name))
        });
        known.aliases = names.map(|name| (name.to_owned(), unknown.to_owned())).collect();
    }
    known
}

/// The form of our UUIDs; see [`super::uuid`].
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hexadecimal = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(hexadecimal)
}

/// The form of our aliases' names: what OPNsense takes.
fn is_name(text: &str) -> bool {
    (1..=super::ALIAS_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_description(text: &str) -> bool {
    text.len() <= super::DESCRIPTION_MAX && forbidden(text).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "178bdb50-745a-49dd-9133-c49da9bdac4d";
    const OTHER: &str = "de9fa045-8331-425f-bbca-40a569da8fab";

    fn csv(uuids: &[&str]) -> String {
        let rows = uuids.iter().map(|uuid| format!("{uuid};pass;outgate x: y\n"));
        format!("@uuid;action;description\n{}", rows.collect::<String>())
    }

    fn aliases(names: &[&str]) -> String {
        let aliases = names.iter().map(|name| format!(r#""{name}": {{"name": "{name}", "description": "outgate {name}"}}"#));
        format!(r#"{{"aliases": {{"alias": {{{}}}}}}}"#, aliases.collect::<Vec<_>>().join(", "))
    }

    fn run(old: &[(&str, String)], new: &[(&str, String)]) -> (String, Vec<Code>) {
        let mut findings = Findings::default();
        let old = old.iter().map(|(path, text)| ((*path).to_owned(), text.clone())).collect();
        let new: Vec<File> = new.iter().map(|(p, t)| File { path: (*p).to_owned(), text: t.clone() }).collect();
        let list = retire(&old, &new, &mut findings).map(|file| file.text).unwrap_or_default();
        (list, findings.iter().map(|d| d.code).collect())
    }

    #[test]
    fn what_left_is_listed_until_it_comes_back() {
        let both = [("rules.csv", csv(&[UUID, OTHER])), ("aliases.json", aliases(&["OG_a", "OG_b"]))];
        let one = [("rules.csv", csv(&[UUID])), ("aliases.json", aliases(&["OG_a"]))];
        assert_eq!(run(&[], &both), (String::new(), vec![]));
        assert_eq!(run(&both, &both), (String::new(), vec![]));
        let (list, codes) = run(&both, &one);
        assert_eq!(codes, [Code::Retired]);
        assert!(list.contains(OTHER) && !list.contains(UUID) && list.contains("OG_b") && !list.contains("OG_a"), "{list}");
        // The list of the run before stands for the files before that.
        let with_list = [one[0].clone(), one[1].clone(), (PATH, list.clone())];
        assert_eq!(run(&with_list, &one).0, list);
        assert_eq!(run(&with_list, &both), (String::new(), vec![]));
        // Nothing is written any more, so everything is still there.
        let (all, _) = run(&with_list, &[]);
        assert!([UUID, OTHER, "OG_a", "OG_b"].iter().all(|it| all.contains(it)), "{all}");
        // Rules sent by API and rules in a table are rules all the same.
        let api = format!(r#"{{"rules": [{{"uuid": "{OTHER}", "rule": {{"action": "reject", "description": "outgate"}}}}]}}"#);
        assert!(run(&[("rules.json", api)], &one).0.contains(r#""action": "reject""#));
    }

    #[test]
    fn a_group_comes_before_its_members() {
        let (list, _) = run(&[("aliases.json", aliases(&["OGH_a", "OGN_a", "OG_a"]))], &[]);
        let at = |name: &str| list.find(&format!(r#""{name}""#)).unwrap();
        assert!(at("OG_a") < at("OGH_a") && at("OG_a") < at("OGN_a"), "{list}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_searched_and_said() {
        let (half, codes) = run(&[("rules.csv", csv(&[UUID, OTHER]).replacen(";pass", "", 1))], &[]);
        assert_eq!(codes, [Code::RetiredUnsure, Code::Retired]);
        assert!(half.contains(UUID) && half.contains(OTHER), "{half}");
        // What could not be read once is read from then on.
        let (again, codes) = run(&[(PATH, half.clone())], &[]);
        assert_eq!((again, codes), (half.clone(), vec![Code::Retired]));
        let marked = format!("<<<<<<< ours\n{half}=======\n{}", aliases(&["OG_a"]));
        let (list, codes) = run(&[(PATH, marked)], &[]);
        assert_eq!(codes, [Code::RetiredUnsure, Code::Retired]);
        assert!(list.contains(UUID) && list.contains(OTHER) && list.contains("OG_a"), "{list}");
        // The labels of aliases look like rules and are none.
        let cut = format!(r#"{{"{UUID}": {{"name" : "OG_a", "na"#);
        let (list, _) = run(&[("aliases.json", cut)], &[]);
        assert!(list.contains("OG_a") && !list.contains(UUID), "{list}");
        // Later versions of the list are not read as if they were this one.
        assert_eq!(run(&[(PATH, half.replace("_version\": 1", "_version\": 2"))], &[]).1[0], Code::RetiredUnsure);
        for hostile in ["", "\0", "{", "[]", "null", "@uuid", ";;;;", "\u{202e}", r#"{"format_version": 1, "rules": 1}"#] {
            for path in [PATH, "rules.csv", "rules.json", "aliases.json"] {
                assert_eq!(run(&[(path, hostile.to_owned())], &[]), (String::new(), vec![Code::RetiredUnsure]), "{path} {hostile:?}");
            }
        }
    }

    #[test]
    fn what_is_no_entry_of_ours_is_not_listed() {
        let hostile = csv(&[UUID]).replace("outgate x", "a\"b");
        let (list, codes) = run(&[("rules.csv", hostile)], &[]);
        assert!(list.contains(UUID) && !list.contains("a\\\"b") && codes.contains(&Code::RetiredUnsure), "{list}");
        assert!(!is_uuid("178bdb50-745a-49dd-9133-c49da9bdac4g") && !is_uuid("178bdb50-745a-49dd-9133") && is_uuid(UUID));
        assert!(!is_name("a b") && !is_name("") && !is_name(&"a".repeat(32)) && is_name("OG_a"));
    }
}
