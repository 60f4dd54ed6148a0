//! Man pages of the files: what a page of the documentation begins with, its first example, and every key from the schema.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use serde_json::Value;

use super::{MANUAL, Page, see_also, source, tidy};
use crate::schema::KINDS;

/// A page: its name, what it is, the documentation it begins with, the kinds of file it tells of.
struct Format {
    name: &'static str,
    about: &'static str,
    document: &'static str,
    kinds: &'static [&'static str],
}

const FORMATS: [Format; 4] = [
    Format {
        name: "outgate.yaml",
        about: "what one site is and wants, for outgate",
        document: include_str!("../../../docs/profile.md"),
        kinds: &["profile"],
    },
    Format {
        name: "outgate-sites.yaml",
        about: "the sites of a repository that one run of outgate is for",
        document: include_str!("../../../docs/sites.md"),
        kinds: &["sites"],
    },
    Format {
        name: "outgate.lock",
        about: "pinned DNS answers and lists of prefixes, written by outgate",
        document: include_str!("../../../docs/lock.md"),
        kinds: &["lock"],
    },
    Format {
        name: "outgate-catalog",
        about: "what TrueNAS releases contact, for outgate",
        document: include_str!("../../../docs/catalog.md"),
        kinds: &["callouts", "releases", "sources", "features", "providers", "pages"],
    },
];

/// The names of the pages.
pub(super) const NAMES: [&str; 4] = [FORMATS[0].name, FORMATS[1].name, FORMATS[2].name, FORMATS[3].name];

pub(super) fn pages(day: &str) -> impl Iterator<Item = Page> {
    FORMATS.iter().map(|format| Page { name: format.name.to_owned(), section: 5, text: page(format, day) })
}

fn page(format: &Format, day: &str) -> String {
    let mut roff = Roff::new();
    roff.control("TH", [format.name, "5", day, &source(), MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{} - {}", format.name, format.about))]);
    roff.control("SH", ["DESCRIPTION"]);
    let blocks = blocks(format.document);
    // The head of the document, up to its first section.
    for block in blocks.iter().skip(1).take_while(|block| !matches!(block, Block::Heading)) {
        print(&mut roff, block);
    }
    let profile = blocks.iter().find(|block| {
        let Block::Fence(lines) = block else { return false };
        lines.first().is_some_and(|line| line.starts_with("# ") && line.ends_with("/outgate.yaml"))
    });
    if let Some(example) = profile {
        roff.control("SH", ["EXAMPLE"]);
        print(&mut roff, example);
    }
    for kind in KINDS.iter().filter(|kind| format.kinds.contains(&kind.name)) {
        let of = kind.title.rsplit(": ").next().unwrap_or(kind.title);
        let title = if format.kinds.len() == 1 { "KEYS".to_owned() } else { format!("KEYS OF {of}") };
        roff.control("SH", [&*title]);
        // What is not JSON is no schema.
        let schema: Value = serde_json::from_str(&kind.print()).unwrap_or_default();
        told(&mut roff, &schema);
        keys(&mut roff, &schema, "");
        roff.control("PP", []);
        roff.text(inline(&format!("The JSON Schema of this file, for editors: `outgate schema {}`.", kind.name)));
    }
    let mut others = vec![("outgate", 1)];
    others.extend(NAMES.iter().map(|name| (*name, 5)).filter(|(name, _)| *name != format.name));
    see_also(&mut roff, &others);
    tidy(&roff.render())
}

/// What a document is made of. A page has no place for tables: they stay behind.
enum Block<'a> {
    Heading,
    Text(String),
    Fence(Vec<&'a str>),
}

fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut fence: Option<Vec<&str>> = None;
    let mut open = false;
    for line in document.lines() {
        if line.starts_with("```") {
            match fence.take() {
                Some(lines) => blocks.push(Block::Fence(lines)),
                None => fence = Some(Vec::new()),
            }
            open = false;
        } else if let Some(lines) = &mut fence {
            lines.push(line);
        } else if line.starts_with('#') {
            blocks.push(Block::Heading);
            open = false;
        } else if line.is_empty() || line.starts_with('|') {
            open = false;
        } else if let (true, Some(Block::Text(text))) = (open, blocks.last_mut()) {
            *text = format!("{text} {line}");
        } else {
            blocks.push(Block::Text(line.to_owned()));
            open = true;
        }
    }
    blocks
}

fn print(roff: &mut Roff, block: &Block<'_>) {
    match block {
        Block::Heading => {}
        Block::Text(text) => {
            roff.control("PP", []);
            roff.text(inline(&without_links(text)));
        }
        Block::Fence(lines) => {
            roff.control("PP", []);
            roff.control("nf", []);
            roff.control("RS", ["4"]);
            for line in lines {
                // An empty line would be taken for a fault.
                roff.text([roman(if line.is_empty() { "\u{a0}" } else { line })]);
            }
            roff.control("RE", []);
            roff.control("fi", []);
        }
    }
}

/// `[text](place)` as its text: the places are files that a page knows nothing of.
fn without_links(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('[') {
        let Some((inside, after)) = from.split_once("](") else { break };
        let Some((_, after)) = after.split_once(')') else { break };
        kept.push_str(before);
        kept.push_str(inside);
        rest = after;
    }
    kept + rest
}

/// Text with what stands between backticks and stars in bold.
fn inline(text: &str) -> Vec<Inline> {
    let text = text.replace("**", "`");
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(i, part)| if i % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

/// What a schema says of its value: the description, the words and what each means, the bounds.
fn told(roff: &mut Roff, schema: &Value) {
    if let Some(text) = schema["description"].as_str() {
        roff.text(inline(text));
    }
    let items = if schema["items"].is_object() { &schema["items"] } else { schema };
    // Words of a key that may also have others, a version with its point releases for one, stand one level down.
    let offered = |schema: &Value| schema["enum"].as_array().cloned();
    let words = offered(items).or_else(|| items["anyOf"].as_array()?.iter().find_map(offered));
    let Some(words) = words else { return };
    let words: Vec<String> = words.iter().map(plain).collect();
    match items["enumDescriptions"].as_array() {
        None => {
            let text = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            roff.control("br", []);
            roff.text(inline(&format!("One of {text}.")));
        }
        Some(about) => {
            roff.control("RS", []);
            for (word, about) in words.iter().zip(about) {
                roff.control("TP", []);
                roff.text([bold(word)]);
                roff.text(inline(about.as_str().unwrap_or_default()));
            }
            roff.control("RE", []);
        }
    }
}

/// A value as a file has it, a text without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Every key below `at`, each with its whole path as the documentation writes it.
fn keys(roff: &mut Roff, schema: &Value, at: &str) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut groups: Vec<(&Value, bool, Vec<&str>)> = Vec::new();
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let required = required.contains(&&**key);
        // Keys that differ by name alone are told of once.
        match groups.iter_mut().find(|(other, r, _)| *other == value && *r == required) {
            Some((.., names)) => names.push(key),
            None => groups.push((value, required, vec![key])),
        }
    }
    for (value, required, names) in groups {
        key_of(roff, value, &names.iter().map(|name| below(name)).collect::<Vec<_>>(), required);
    }
    let named = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
    if let Some(value) = named.or(Some(&schema["additionalProperties"]).filter(|value| value.is_object())) {
        key_of(roff, value, &[below("<name>")], false);
    }
    if schema["items"].is_object() {
        keys(roff, &schema["items"], &format!("{at}[]"));
    }
}

/// A key, or several of one meaning.
fn key_of(roff: &mut Roff, schema: &Value, paths: &[String], required: bool) {
    let mut remarks = Vec::new();
    match &schema["type"] {
        Value::Array(kinds) => remarks.push(kinds.iter().map(plain).collect::<Vec<_>>().join(" or ")),
        Value::String(kind) => remarks.push(kind.clone()),
        _ => {}
    }
    match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some(least), Some(most)) => remarks.push(format!("{least} to {most}")),
        (Some(least), None) => remarks.push(format!("{least} or more")),
        _ => {}
    }
    if required {
        remarks.push("required".to_owned());
    }
    // An empty list or mapping, or `false`, is what a key that is not there is anyway.
    let default = &schema["default"];
    if default.is_number() || default.is_string() || default == &Value::Bool(true) {
        remarks.push(format!("default {}", plain(default)));
    }
    roff.control("TP", []);
    let mut head: Vec<Inline> = paths.iter().flat_map(|path| [bold(path), roman(", ")]).collect();
    head.pop();
    head.extend([roman(" ("), italic(remarks.join(", ")), roman(")")]);
    roff.text(head);
    told(roff, schema);
    for path in paths {
        keys(roff, schema, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_page() {
        let told: Vec<&str> = FORMATS.iter().flat_map(|format| format.kinds).copied().collect();
        assert!(KINDS.iter().all(|kind| told.contains(&kind.name)), "{told:?}");
        assert_eq!(told.len(), KINDS.len());
    }

    #[test]
    fn markdown_becomes_text() {
        assert_eq!(without_links("a [b](c.md#d) e [f] g"), "a b e [f] g");
        assert_eq!(inline("a `b` **c**"), [roman("a "), bold("b"), roman(" "), bold("c")]);
        let blocks = blocks("# A\n\nb\nc\n\n| t |\n\n```sh\nd\n\n# e\n```\n## F\n");
        let [Block::Heading, Block::Text(text), Block::Fence(lines), Block::Heading] = &*blocks else {
            panic!("{} blocks", blocks.len())
        };
        assert_eq!((text.as_str(), &**lines), ("b c", &["d", "", "# e"][..]));
    }
}
