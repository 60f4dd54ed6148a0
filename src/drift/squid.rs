//! Squid: the include and its lists, as generated and as installed. Directives that are asked one after the other keep
//! their order, all others are free; comments and spaces say nothing.

use super::{Chain, Rule, State};

/// Directives that are asked in order.
const ORDERED: [&str; 2] = ["http_access", "ssl_bump"];

/// The state of an include and its lists, by their file names.
#[must_use]
pub fn of_files<'a>(conf: &str, lists: impl IntoIterator<Item = (&'a str, &'a str)>) -> State {
    let mut state = State::default();
    for line in lines(conf) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["acl", name, kind, rest @ ..] => {
                let (options, values): (Vec<&str>, Vec<&str>) = rest.iter().partition(|word| word.starts_with('-'));
                let kind = std::iter::once(kind).chain(&options).copied().collect::<Vec<_>>().join(" ");
                let set = state.sets.entry(format!("acl {name}")).or_default();
                // Of two kinds it is an error to Squid, and no set of ours.
                if !set.kind.is_empty() && set.kind != kind {
                    state.others.insert(line.to_owned());
                    continue;
                }
                set.kind = kind;
                set.extend(values);
            }
            [directive, rest @ ..] => {
                let ordered = ORDERED.contains(directive);
                let (chain, text) =
                    if ordered { (*directive, rest.join(" ")) } else { ("directives", words.join(" ")) };
                let fate = if ordered { rest.first().copied().unwrap_or_default() } else { "" };
                let rule = Rule { key: String::new(), text, fate: fate.to_owned() };
                state.chains.entry(chain.to_owned()).or_insert_with(Chain::default).rules.push(rule);
            }
            [] => {}
        }
    }
    for (name, text) in lists {
        state.sets.entry(format!("lists/{name}")).or_default().extend(lines(text));
    }
    state
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}
