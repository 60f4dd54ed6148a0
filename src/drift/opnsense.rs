//! OPNsense: aliases and rules as generated, and as its export or its API tells them. Compared is what outgate writes:
//! fields it does not know are the firewall's.

use serde_json::{Map, Value};

use super::{Chain, Rule, State, Unreadable};

/// The chain that stands for the rules of an interface.
const RULES: &str = "rules";

/// Fields of a rule that say what it does, in the order they are told in.
const FIELDS: [&str; 13] = [
    "action",
    "quick",
    "interface",
    "direction",
    "ipprotocol",
    "protocol",
    "source_net",
    "source_not",
    "source_port",
    "destination_net",
    "destination_not",
    "destination_port",
    "log",
];

/// What is ours on the firewall: names of aliases begin with `prefix`, descriptions of rules with `outgate`.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// The beginning of our aliases' names.
    pub prefix: &'a str,
    /// The interface our rules are on.
    pub interface: &'a str,
}

/// One rule of the firewall, as it is told.
#[derive(Clone, Debug)]
struct Row {
    uuid: String,
    sequence: u64,
    description: String,
    enabled: bool,
    fields: Vec<String>,
}

/// Aliases and rules as they should be, or as they are; `wanted` is what should be, where this is what is. A rule of
/// somebody else's counts where it lets out what is asked before ours are done.
///
/// # Errors
/// What is no export and no answer of the API.
pub fn state(aliases: &str, rules: &str, ours: Ours<'_>, wanted: Option<&State>) -> Result<State, Unreadable> {
    let mut state = State::default();
    for alias in alias_items(&read(aliases)?)? {
        let text = |key: &str| alias.get(key).map(plain).unwrap_or_default();
        let name = text("name");
        if !name.starts_with(ours.prefix) && !wanted.is_some_and(|wanted| wanted.sets.contains_key(&name)) {
            continue;
        }
        let set = state.sets.entry(name).or_default();
        let off = if text("enabled") == "0" { " disabled" } else { "" };
        set.kind = format!("{}{off}", text("type"));
        set.extend(text("content").split(['\n', ',']).map(str::trim).filter(|item| !item.is_empty()));
    }
    let mut rows = if rules.trim_start().starts_with(['{', '[']) { json_rows(rules)? } else { csv_rows(rules)? };
    // Of one sequence the firewall takes them as they are told.
    rows.sort_by_key(|row| row.sequence);
    let is_ours = |row: &Row| row.description.starts_with("outgate ");
    let last = rows.iter().filter(|row| is_ours(row)).map(|row| row.sequence).max().unwrap_or(u64::MAX);
    let field = |row: &Row, name: &str| {
        FIELDS.iter().position(|field| *field == name).and_then(|at| row.fields.get(at).cloned()).unwrap_or_default()
    };
    let before_ours = |row: &Row| {
        row.enabled
            && row.sequence <= last
            && field(row, "action") == "pass"
            && field(row, "interface").split(',').any(|interface| interface == ours.interface)
    };
    let chain = state.chains.entry(RULES.to_owned()).or_insert_with(Chain::default);
    for row in rows.into_iter().filter(|row| is_ours(row) || before_ours(row)) {
        let key = row.description.strip_prefix("outgate ").and_then(|rest| rest.split_once(':')).map(|(key, _)| key);
        let off = if row.enabled { "" } else { "disabled " };
        let told = FIELDS.iter().zip(&row.fields).filter(|(_, value)| !value.is_empty());
        let told: Vec<String> = told.map(|(name, value)| format!("{name}={value}")).collect();
        chain.rules.push(Rule {
            key: key.unwrap_or(&row.uuid).to_owned(),
            text: format!("{off}{}", told.join(" ")),
            fate: format!("{off}{}", row.fields.first().cloned().unwrap_or_default()),
        });
    }
    Ok(state)
}

fn read(text: &str) -> Result<Value, Unreadable> {
    serde_json::from_str(text).map_err(|error| format!("no JSON that can be read: {error}"))
}

/// The aliases of an export, or of `alias/search_item`.
fn alias_items(document: &Value) -> Result<Vec<&Map<String, Value>>, Unreadable> {
    let list = document.get("aliases").and_then(|aliases| aliases.get("alias")).or_else(|| document.get("rows"));
    let items: Vec<&Value> = match list {
        Some(Value::Object(items)) => items.values().collect(),
        Some(Value::Array(items)) => items.iter().collect(),
        _ => return Err("no export of aliases, and no answer of alias/search_item".to_owned()),
    };
    items.into_iter().map(|item| item.as_object().ok_or_else(|| "an alias is no object".to_owned())).collect()
}

/// A value as the firewall writes it: texts mostly, at times numbers or truths.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(truth) => u8::from(*truth).to_string(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The rules as outgate writes them for old releases, or of `filter/search_rule`.
fn json_rows(text: &str) -> Result<Vec<Row>, Unreadable> {
    let document = read(text)?;
    let list = document.get("rules").or_else(|| document.get("rows")).or(Some(&document)).and_then(Value::as_array);
    let list = list.ok_or("no list of rules, and no answer of filter/search_rule")?;
    let row = |item: &Value| {
        let body = item.get("rule").unwrap_or(item);
        if !body.is_object() {
            return Err("a rule is no object".to_owned());
        }
        let of = |key: &str| body.get(key).or_else(|| item.get(key)).map(plain).unwrap_or_default();
        row(&of)
    };
    list.iter().map(row).collect()
}

/// The rules of `download_rules`: the first separator that is met separates.
fn csv_rows(text: &str) -> Result<Vec<Row>, Unreadable> {
    let separator = text.chars().find(|c| matches!(c, ',' | ';')).unwrap_or(';');
    let mut lines = cells(text, separator).into_iter();
    let head = lines.next().unwrap_or_default();
    if !head.iter().any(|name| name == "@uuid") {
        return Err("no rules: the first line does not name `@uuid`".to_owned());
    }
    let line = |line: Vec<String>| {
        let of = |key: &str| {
            let at = head.iter().position(|name| name.trim_start_matches('@') == key);
            at.and_then(|at| line.get(at).cloned()).unwrap_or_default()
        };
        row(&of)
    };
    lines.filter(|cells| cells.iter().any(|cell| !cell.is_empty())).map(line).collect()
}

fn row(of: &impl Fn(&str) -> String) -> Result<Row, Unreadable> {
    let sequence = of("sequence");
    let Ok(sequence) = sequence.trim().parse() else {
        return Err(format!("a rule has the sequence `{sequence}`"));
    };
    Ok(Row {
        uuid: of("uuid"),
        sequence,
        description: of("description"),
        enabled: of("enabled") != "0",
        fields: FIELDS.iter().map(|field| of(field)).collect(),
    })
}

/// Lines and cells; a cell in quotes may hold separators and ends of lines.
fn cells(text: &str, separator: char) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                cell.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            '\\' if quoted => cell.extend(chars.next()),
            _ if quoted => cell.push(c),
            '\r' => {}
            '\n' => {
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            _ if c == separator => line.push(std::mem::take(&mut cell)),
            _ => cell.push(c),
        }
    }
    if !cell.is_empty() || !line.is_empty() {
        line.push(cell);
        lines.push(line);
    }
    lines
}
