//! Our table of nftables: as `outgate.nft` fills it, and as `nft -j list table` prints it.

use serde_json::{Map, Value};

use super::{Chain, Rule, State, Unreadable};

/// What the file would make of an empty kernel.
///
/// # Errors
/// What is no text of our template; a template of one's own may hold more than is read here.
pub fn of_file(text: &str) -> Result<State, Unreadable> {
    let mut reader = Reader { tokens: tokens(text)?, at: 0 };
    let mut state = State::default();
    let mut filled = Vec::new();
    while let Some(token) = reader.next() {
        match token {
            Token::End => {}
            Token::Word("table") => {
                reader.words_until_brace()?;
                reader.table(&mut state, &mut filled)?;
            }
            // What is emptied is filled again below.
            Token::Word("flush") => while !matches!(reader.next(), None | Some(Token::End)) {},
            other => return Err(format!("{} at the top of the file is not read here", other.show())),
        }
    }
    for (name, set) in &mut state.sets {
        // Sets that the file makes and never fills: dnsmasq does.
        set.open = !filled.contains(name);
    }
    Ok(state)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Open,
    Close,
    Comma,
    /// A line or a semicolon ends.
    End,
}

impl Token<'_> {
    fn show(self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Text(text) => format!("\"{text}\""),
            Self::Open => "`{`".to_owned(),
            Self::Close => "`}`".to_owned(),
            Self::Comma => "`,`".to_owned(),
            Self::End => "the end of a line".to_owned(),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, Unreadable> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let mark = match first {
                '{' => Some(Token::Open),
                '}' => Some(Token::Close),
                ',' => Some(Token::Comma),
                ';' => Some(Token::End),
                _ => None,
            };
            rest = match (mark, first) {
                (Some(token), _) => {
                    tokens.push(token);
                    rest.get(1..).unwrap_or_default()
                }
                (None, '#') => "",
                (None, '"') => {
                    let inner = rest.get(1..).unwrap_or_default();
                    let (text, behind) = inner.split_once('"').ok_or("a quote does not end in its line")?;
                    tokens.push(Token::Text(text));
                    behind
                }
                (None, _) => {
                    let end = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | ';' | '"');
                    let (word, behind) = rest.split_at(rest.find(end).unwrap_or(rest.len()));
                    tokens.push(Token::Word(word));
                    behind
                }
            }
            .trim_start();
        }
        tokens.push(Token::End);
    }
    Ok(tokens)
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    /// The words before an opening brace.
    fn words_until_brace(&mut self) -> Result<Vec<&'a str>, Unreadable> {
        let mut words = Vec::new();
        loop {
            match self.next() {
                Some(Token::Word(word)) => words.push(word),
                Some(Token::Open) => return Ok(words),
                other => return Err(unexpected(other)),
            }
        }
    }

    fn table(&mut self, state: &mut State, filled: &mut Vec<String>) -> Result<(), Unreadable> {
        loop {
            match self.next() {
                Some(Token::End) => {}
                Some(Token::Close) => return Ok(()),
                Some(Token::Word("set")) => {
                    let words = self.words_until_brace()?;
                    let [name] = words[..] else { return Err(format!("a set is named {words:?}")) };
                    if self.set(name, state)? {
                        filled.push(name.to_owned());
                    }
                }
                Some(Token::Word("chain")) => {
                    let words = self.words_until_brace()?;
                    let [name] = words[..] else { return Err(format!("a chain is named {words:?}")) };
                    self.chain(state.chains.entry(name.to_owned()).or_default())?;
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Reads a set; whether it has elements.
    fn set(&mut self, name: &str, state: &mut State) -> Result<bool, Unreadable> {
        let set = state.sets.entry(name.to_owned()).or_default();
        let (mut kind, mut flags, mut filled) = (String::new(), Vec::new(), false);
        loop {
            match self.next() {
                Some(Token::End) => {}
                Some(Token::Close) => break,
                Some(Token::Word("type")) => kind = self.value()?.join(" "),
                Some(Token::Word("flags")) => flags = self.value()?,
                Some(Token::Word("elements")) => {
                    let words = self.words_until_brace()?;
                    if words != ["="] {
                        return Err(format!("`elements {}` is not read here", words.join(" ")));
                    }
                    let elements = self.list()?;
                    filled = true;
                    set.extend(elements.iter().map(String::as_str));
                }
                other => return Err(unexpected(other)),
            }
        }
        let kind = kind_of(&kind, flags);
        if !set.kind.is_empty() && set.kind != kind {
            return Err(format!("set {name} is of two types"));
        }
        set.kind = kind;
        Ok(filled)
    }

    /// The words up to the end of the statement.
    fn value(&mut self) -> Result<Vec<String>, Unreadable> {
        let mut words = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Close) => return Ok(words),
                Some(Token::Word(word)) => words.push(word.to_owned()),
                Some(Token::Comma) => {}
                Some(Token::End) => {
                    self.at += 1;
                    return Ok(words);
                }
                other => return Err(unexpected(other)),
            }
            self.at += 1;
        }
    }

    /// The items up to a closing brace.
    fn list(&mut self) -> Result<Vec<String>, Unreadable> {
        let mut items = Vec::new();
        loop {
            match self.next() {
                Some(Token::Word(word)) => items.push(number(word)),
                Some(Token::Text(text)) => items.push(text.to_owned()),
                Some(Token::Comma | Token::End) => {}
                Some(Token::Close) => return Ok(items),
                other => return Err(unexpected(other)),
            }
        }
    }

    fn chain(&mut self, chain: &mut Chain) -> Result<(), Unreadable> {
        loop {
            match self.peek() {
                Some(Token::Close) => {
                    self.at += 1;
                    return Ok(());
                }
                Some(Token::End) => self.at += 1,
                Some(Token::Word("type")) => {
                    self.at += 1;
                    let words = self.value()?;
                    chain.head = hook(&words)?;
                }
                Some(Token::Word("policy")) => {
                    self.at += 1;
                    let policy = self.value()?.join(" ");
                    if !chain.head.contains(" policy ") {
                        chain.head = format!("{} policy {policy}", chain.head);
                    }
                }
                Some(_) => {
                    let rule = self.rule()?;
                    chain.rules.push(rule);
                }
                None => return Err(unexpected(None)),
            }
        }
    }

    fn rule(&mut self) -> Result<Rule, Unreadable> {
        let mut written = Written::default();
        let mut words: Vec<String> = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Close | Token::End) => break,
                None => return Err(unexpected(None)),
                _ => {}
            }
            match self.next() {
                Some(Token::Word("counter")) => {}
                Some(Token::Word("comment")) => match self.next() {
                    Some(Token::Text(text)) => text.clone_into(&mut written.key),
                    other => return Err(unexpected(other)),
                },
                Some(Token::Word("prefix")) => match self.next() {
                    Some(Token::Text(text)) => words.extend(["prefix".to_owned(), format!("{text:?}")]),
                    other => return Err(unexpected(other)),
                },
                Some(Token::Word(word)) => words.push(number(word)),
                Some(Token::Text(text)) => words.push(text.to_owned()),
                Some(Token::Open) => words.push(values(self.list()?)),
                Some(Token::Comma) => {
                    // `established,related` is a list without braces.
                    let (Some(before), Some(Token::Word(next))) = (words.pop(), self.next()) else {
                        return Err(unexpected(Some(Token::Comma)));
                    };
                    let mut items: Vec<String> = before.split(',').map(str::to_owned).collect();
                    items.push(next.to_owned());
                    words.push(values(items));
                }
                other => return Err(unexpected(other)),
            }
        }
        written.parts = words;
        Ok(written.rule())
    }
}

fn unexpected(token: Option<Token<'_>>) -> Unreadable {
    match token {
        Some(token) => format!("{} is not expected there", token.show()),
        None => "the file ends too early".to_owned(),
    }
}

/// `filter hook forward priority filter - 5` in the words that a dump is told in.
fn hook(words: &[String]) -> Result<String, Unreadable> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (kind, hook, priority) = match words[..] {
        [kind, "hook", hook, "priority", "filter"] => (kind, hook, "0".to_owned()),
        [kind, "hook", hook, "priority", "filter", "-", number] => (kind, hook, format!("-{number}")),
        [kind, "hook", hook, "priority", "filter", "+", number] | [kind, "hook", hook, "priority", number] => {
            (kind, hook, number.to_owned())
        }
        _ => return Err(format!("`type {}` is not read here", words.join(" "))),
    };
    Ok(format!("type {kind} hook {hook} priority {priority}"))
}

fn kind_of(kind: &str, mut flags: Vec<String>) -> String {
    flags.sort();
    if flags.is_empty() { kind.to_owned() } else { format!("{kind} {}", flags.join(",")) }
}

/// Numbers are decimal in a dump.
fn number(word: &str) -> String {
    let hex = word.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    hex.map_or_else(|| word.to_owned(), |number| number.to_string())
}

/// A list of values as one word: sorted, ports and numbers merged into ranges.
fn values(items: Vec<String>) -> String {
    let range = |item: &String| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some((first.parse::<u32>().ok()?, last.parse::<u32>().ok()?))
    };
    let Some(mut ranges) = items.iter().map(range).collect::<Option<Vec<_>>>() else {
        let mut items = items;
        items.sort();
        items.dedup();
        return items.join(",");
    };
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let text = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    merged.iter().map(text).collect::<Vec<_>>().join(",")
}

/// A rule as it is put together.
#[derive(Default)]
struct Written {
    key: String,
    parts: Vec<String>,
}

impl Written {
    fn rule(self) -> Rule {
        let text = self.parts.join(" ");
        // What it ends in; what only logs or counts is a fate of its own, for everything before it is asked first.
        let ends = |word: &&String| ["accept", "drop", "goto", "jump", "reject", "return"].contains(&word.as_str());
        let at = self.parts.iter().position(|word| ends(&word));
        let fate = at.and_then(|at| self.parts.get(at..)).map_or_else(|| text.clone(), |rest| rest.join(" "));
        Rule { key: self.key, text, fate }
    }
}

/// What a dump says of our table; `None` where it does not have it.
///
/// # Errors
/// What is no output of `nft -j`.
pub fn of_dump(text: &str, table: &str) -> Result<Option<State>, Unreadable> {
    let document: Value = serde_json::from_str(text).map_err(|error| format!("no JSON that can be read: {error}"))?;
    let Some(items) = document.get("nftables").and_then(Value::as_array) else {
        return Err("no output of `nft -j list table`: it has no list `nftables`".to_owned());
    };
    let mut state = State::default();
    let mut there = false;
    for item in items {
        let Some((kind, body)) = item.as_object().and_then(|item| item.iter().next()) else {
            return Err("an item of `nftables` is no object".to_owned());
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let ours = text("family") == "inet";
        match kind.as_str() {
            "metainfo" => {}
            "table" if ours && text("name") == table => {
                there = true;
                // nftables 1.0.6 prints no right name for a flag, but prints that there is one.
                if body.get("flags").is_some() {
                    state.others.insert("a flag of the table: it may be dormant, and then holds nothing".to_owned());
                }
            }
            _ if !ours || text("table") != table => {}
            "set" => {
                let flags = body.get("flags").and_then(Value::as_array).into_iter().flatten();
                let flags = flags.filter_map(Value::as_str).map(str::to_owned).collect();
                let kind = body.get("type").map(|kind| kind.as_str().map_or_else(|| kind.to_string(), str::to_owned));
                let set = state.sets.entry(text("name").to_owned()).or_default();
                set.kind = kind_of(&kind.unwrap_or_default(), flags);
                let elements = body.get("elem").and_then(Value::as_array).into_iter().flatten();
                let elements: Vec<String> = elements.map(element).collect();
                set.extend(elements.iter().map(String::as_str));
            }
            "chain" => {
                let chain = state.chains.entry(text("name").to_owned()).or_default();
                if body.get("hook").is_some() {
                    let priority = body.get("prio").map(Value::to_string).unwrap_or_default();
                    chain.head = format!(
                        "type {} hook {} priority {priority} policy {}",
                        text("type"),
                        text("hook"),
                        text("policy")
                    );
                }
            }
            "rule" => {
                let rule = rule(body);
                state.chains.entry(text("chain").to_owned()).or_default().rules.push(rule);
            }
            other => _ = state.others.insert(format!("{other} {}", text("name"))),
        }
    }
    Ok(there.then_some(state))
}

/// An element of a set, or a value in a rule, in the words of a file.
fn element(value: &Value) -> String {
    let inner = |key: &str| value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get(key));
    let pair = |value: &Value| {
        let [first, last] = value.as_array()?.as_slice() else { return None };
        Some(format!("{}-{}", element(first), element(last)))
    };
    if let Some(prefix) = inner("prefix")
        && let (Some(addr), Some(len)) = (prefix.get("addr").and_then(Value::as_str), prefix.get("len"))
    {
        return format!("{addr}/{len}");
    }
    if let Some(range) = inner("range").and_then(pair) {
        return range;
    }
    // An element with a counter or a time of its own.
    if let Some(own) = inner("elem").and_then(|elem| elem.get("val")) {
        return element(own);
    }
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rule(body: &Value) -> Rule {
    let comment = body.get("comment").and_then(Value::as_str).unwrap_or_default();
    let mut written = Written { key: comment.to_owned(), parts: Vec::new() };
    for expression in body.get("expr").and_then(Value::as_array).into_iter().flatten() {
        let known = expression.as_object().and_then(|object| match object.iter().next() {
            Some((kind, body)) if object.len() == 1 => statement(kind, body),
            _ => None,
        });
        // What is not known stands as it is: no rule of ours is told like that.
        written.parts.extend(known.unwrap_or_else(|| vec![expression.to_string()]));
    }
    written.rule()
}

/// Whether an object has these keys and no other: what has more means more.
fn has_only(body: &Value, keys: &[&str]) -> bool {
    body.as_object().is_some_and(|object| object.keys().all(|key| keys.contains(&key.as_str())))
}

fn statement(kind: &str, body: &Value) -> Option<Vec<String>> {
    let own = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    match kind {
        "counter" => own(&[]),
        "accept" | "drop" | "return" if body.is_null() => own(&[kind]),
        "goto" | "jump" if has_only(body, &["target"]) => own(&[kind, text("target")?]),
        "reject" if has_only(body, &["type", "expr"]) => match (text("type")?, text("expr")) {
            ("tcp reset", None) => own(&["reject", "with", "tcp", "reset"]),
            (of, Some(with)) => own(&["reject", "with", of, with]),
            _ => None,
        },
        "log" if has_only(body, &["prefix", "level"]) => {
            let prefix = format!("{:?}", text("prefix")?);
            own(&["log", "prefix", &prefix, "level", text("level").unwrap_or("warn")])
        }
        "limit" => limit(body.as_object()?),
        "match" if has_only(body, &["op", "left", "right"]) => {
            let mut parts = left(body.get("left")?)?;
            match text("op")? {
                "==" | "in" => {}
                other => parts.push(other.to_owned()),
            }
            parts.push(right(body.get("right")?));
            Some(parts)
        }
        _ => None,
    }
}

fn limit(body: &Map<String, Value>) -> Option<Vec<String>> {
    let known = ["rate", "burst", "per", "rate_unit", "burst_unit"];
    let units = ["rate_unit", "burst_unit"].iter().filter_map(|key| body.get(*key));
    if !body.keys().all(|key| known.contains(&key.as_str())) || units.into_iter().any(|unit| unit != "packets") {
        return None;
    }
    let rate = format!("{}/{}", body.get("rate")?, body.get("per")?.as_str()?);
    let burst = body.get("burst")?.to_string();
    Some(["limit", "rate", &rate, "burst", &burst, "packets"].map(str::to_owned).to_vec())
}

/// What a match looks at.
fn left(value: &Value) -> Option<Vec<String>> {
    let (kind, body) = value.as_object().filter(|object| object.len() == 1)?.iter().next()?;
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    match kind.as_str() {
        "payload" if has_only(body, &["protocol", "field"]) => Some(vec![text("protocol")?, text("field")?]),
        "ct" if has_only(body, &["key"]) => Some(vec!["ct".to_owned(), text("key")?]),
        "meta" if has_only(body, &["key"]) => match text("key")? {
            // nft takes these without `meta`, and prints them so.
            key if matches!(key.as_str(), "iifname" | "oifname") => Some(vec![key]),
            key => Some(vec!["meta".to_owned(), key]),
        },
        _ => None,
    }
}

/// What a match compares with.
fn right(value: &Value) -> String {
    let list = value.as_array().or_else(|| {
        value
            .as_object()
            .filter(|object| object.len() == 1)
            .and_then(|object| object.get("set"))
            .and_then(Value::as_array)
    });
    match list {
        Some(list) => values(list.iter().map(element).collect()),
        None => values(vec![element(value)]),
    }
}
