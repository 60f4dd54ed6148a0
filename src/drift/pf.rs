//! An anchor of pf: as `outgate.conf` fills it, and as `pfctl -sr` and `-T show` print it.
//!
//! pfctl prints a rule for each port and each type of message, counts behind tables, ports by the names of services, and
//! what `pass` does by itself. Both sides are told without all that.

use std::collections::BTreeMap;

use super::{Chain, Rule, State, Unreadable};

/// The chain that stands for the anchor's rules.
const RULES: &str = "rules";

/// Ports as pfctl of FreeBSD names them where nobody asks for numbers; those that a callout may have.
const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("http", 80),
    ("kerberos-sec", 88),
    ("kerberos", 88),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("smtps", 465),
    ("submissions", 465),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("domain-s", 853),
    ("rsync", 873),
    ("imaps", 993),
    ("nfsd", 2049),
    ("nfs", 2049),
    ("syslog-tls", 6514),
];

/// What the files would make of an empty anchor. `tables`: those with a file of their own, by name; others stand in the
/// anchor's file.
///
/// # Errors
/// A line that is no rule and no table.
pub fn of_files<'a>(conf: &str, tables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<State, Unreadable> {
    let mut state = with_tables(tables);
    let mut chain = Chain::default();
    let mut lines = conf.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(line) = lines.next() {
        if let Some((name, rest)) = line.strip_prefix("table <").and_then(|rest| rest.split_once('>')) {
            if rest.trim_end().ends_with('{') {
                let entries = lines.by_ref().take_while(|line| *line != "}");
                state.sets.entry(name.to_owned()).or_default().extend(entries);
            }
            continue;
        }
        if !line.starts_with("pass ") && !line.starts_with("block ") {
            return Err(format!("`{line}` is not read here"));
        }
        chain.rules.extend(rules(line));
    }
    state.chains.insert(RULES.to_owned(), chain);
    Ok(state)
}

/// What pfctl says: the rules of the anchor, and each of its tables by name. What is no rule of ours is kept as it is.
#[must_use]
pub fn of_dump<'a>(text: &str, tables: impl IntoIterator<Item = (&'a str, &'a str)>) -> State {
    let mut state = with_tables(tables);
    let mut chain = Chain::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        chain.rules.extend(rules(line));
    }
    state.chains.insert(RULES.to_owned(), chain);
    state
}

/// Whether the main rules, as pfctl prints them, call an anchor.
#[must_use]
pub fn is_called(main: &str, anchor: &str) -> bool {
    main.lines().any(|line| line.trim_start().starts_with(&format!("anchor \"{anchor}\"")))
}

fn with_tables<'a>(tables: impl IntoIterator<Item = (&'a str, &'a str)>) -> State {
    let mut sets: BTreeMap<String, super::Set> = BTreeMap::new();
    for (name, text) in tables {
        let elements = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        sets.entry(name.to_owned()).or_default().extend(elements);
    }
    State { sets, ..State::default() }
}

/// A line as the rules it stands for: one for each combination of what stands in braces.
fn rules(line: &str) -> Vec<Rule> {
    /// Most rules that a line may stand for: more than any line of ours.
    const MOST: usize = 4096;
    let mut key = String::new();
    let mut texts = vec![Vec::<String>::new()];
    let mut tokens = tokens(line).into_iter().peekable();
    let mut last = String::new();
    while let Some(token) = tokens.next() {
        let items = match token.as_str() {
            "label" => {
                let label = tokens.next().unwrap_or_default();
                let label = label.trim_matches('"');
                label.strip_prefix("outgate:").unwrap_or(label).clone_into(&mut key);
                continue;
            }
            // FreeBSD's number of a label.
            "ridentifier" => {
                tokens.next();
                continue;
            }
            "=" if last == "port" => continue,
            "{" => {
                let mut items = Vec::new();
                for item in tokens.by_ref().take_while(|token| token != "}") {
                    items.push(word(item.trim_end_matches(','), &last));
                }
                items
            }
            _ => vec![word(&token, &last)],
        };
        if items.is_empty() || texts.len().saturating_mul(items.len()) > MOST {
            return vec![Rule { key, text: line.to_owned(), fate: line.to_owned() }];
        }
        match items.as_slice() {
            [item] => texts.iter_mut().for_each(|text| text.push(item.clone())),
            _ => {
                texts = texts
                    .iter()
                    .flat_map(|text| items.iter().map(|item| text.iter().chain([item]).cloned().collect()))
                    .collect();
            }
        }
        last = token;
    }
    texts.into_iter().map(|words| rule(&key, words)).collect()
}

fn rule(key: &str, mut words: Vec<String>) -> Rule {
    let pass = words.first().is_some_and(|word| word == "pass");
    if pass {
        // What pass does where nothing else is said.
        for usual in [["flags", "S/SA"], ["keep", "state"]] {
            if let Some(at) = words.windows(2).position(|pair| pair == usual) {
                words.drain(at..at + 2);
            }
        }
    }
    let fate = words.iter().take(if pass { 1 } else { 2 }).cloned().collect::<Vec<_>>().join(" ");
    Rule { key: key.to_owned(), text: words.join(" "), fate }
}

/// One word in the spelling of our files.
fn word(token: &str, before: &str) -> String {
    if let Some(inner) = token.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        // pfctl prints how many addresses are in it.
        let name = inner.split_once(':').map_or(inner, |(name, _)| name);
        return format!("<{name}>");
    }
    match (before, token) {
        ("proto", "ipv6-icmp") => "icmp6".to_owned(),
        ("port" | "=", name) => {
            let known = SERVICES.iter().find(|(service, _)| *service == name);
            known.map_or_else(|| name.to_owned(), |(_, number)| number.to_string())
        }
        _ => token.to_owned(),
    }
}

/// Words, with braces and quoted texts apart.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '{' | '}' => 1,
            '"' => rest.get(1..).and_then(|inner| inner.find('"')).map_or(rest.len(), |end| end + 2),
            _ => rest.find(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '"')).unwrap_or(rest.len()),
        };
        let (token, behind) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = behind.trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        rules(line).into_iter().map(|rule| format!("{}: {}", rule.key, rule.text)).collect()
    }

    #[test]
    fn what_pfctl_prints_is_what_the_file_says() {
        let file = "pass in quick on em1 proto tcp from <ogc_nas> to <og_x> port { 443 8443:8450 } flags S/SA keep state label \"outgate:x\"";
        let printed = [
            "pass in quick on em1 proto tcp from <ogc_nas:2> to <og_x:3> port = https flags S/SA keep state label \"outgate:x\"",
            "pass in quick on em1 proto tcp from <ogc_nas:2> to <og_x:*> port 8443:8450 flags S/SA keep state label \"outgate:x\" ridentifier 7",
        ];
        assert_eq!(texts(file), printed.iter().flat_map(|line| texts(line)).collect::<Vec<_>>());
        let file = "pass in quick on em1 inet6 proto icmp6 from <c> to any icmp6-type { neighbrsol neighbradv } label \"outgate:icmp6\"";
        let printed = [
            "pass in quick on em1 inet6 proto ipv6-icmp from <c:1> to any icmp6-type neighbrsol keep state label \"outgate:icmp6\"",
            "pass in quick on em1 inet6 proto ipv6-icmp from <c:1> to any icmp6-type neighbradv keep state label \"outgate:icmp6\"",
        ];
        assert_eq!(texts(file), printed.iter().flat_map(|line| texts(line)).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_said_beside_stays() {
        let more = "pass in quick on em1 proto tcp from <a> to <b> port = 443 flags any keep state label \"outgate:x\"";
        assert_eq!(texts(more), ["x: pass in quick on em1 proto tcp from <a> to <b> port 443 flags any"]);
        let many = format!("pass {}", "{ a b c d e f g h } ".repeat(20));
        assert_eq!(rules(&many).len(), 1, "a line that stands for more than memory holds");
        assert_eq!(rules("pass in { } all").len(), 1, "what stands for nothing is not passed over");
    }
}
