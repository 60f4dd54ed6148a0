//! Plain texts and names that may be printed into a rule file.

use std::fmt;
use std::ops::Range;

/// A short text: up to 23 bytes of it lie where it is held, and what is longer is shared by its clones. Sites have a hundred
/// thousand names, and each would be a block of memory by itself that sorting and looking up go to.
pub use smol_str::SmolStr as Short;
use smol_str::ToSmolStr as _;

/// One line that can stand in a comment of any target: no control characters, no quotes, no backslash, no characters
/// that change how the rest of the line reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Short);

/// Longest plain text, in bytes.
const TEXT_MAX: usize = 400;

/// Why a text is not fit to be printed. The text of the error ends a sentence that began with what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError(String);

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TextError {}

/// What a value is in words, as a short text.
#[must_use]
pub fn short(value: &impl fmt::Display) -> Short {
    value.to_smolstr()
}

/// The first character that may never be printed into a rule file, whatever the target: control characters,
/// quotes, backslash, backtick, and the invisible ones that turn the order of a line around.
#[must_use]
pub fn forbidden(text: &str) -> Option<char> {
    if is_plain(text, |_| false) {
        return None;
    }
    text.chars().find(|&c| matches!(c, '"' | '\'' | '`' | '\\') || is_invisible(c))
}

/// The same of a text of many lines: what stands in one of them.
#[must_use]
pub fn forbidden_in_lines(text: &str) -> Option<char> {
    if is_plain(text, |byte| byte == b'\n') { None } else { text.lines().find_map(forbidden) }
}

/// How many lines end in a text: a filtered count takes eight times as long, and files have millions of bytes.
#[must_use]
pub fn line_ends(text: &str) -> usize {
    let few = |bytes: &[u8]| bytes.iter().fold(0_u8, |ends, &byte| ends + u8::from(byte == b'\n'));
    text.as_bytes().chunks(usize::from(u8::MAX)).map(|bytes| usize::from(few(bytes))).sum()
}

/// Whether a text is of ASCII that may be printed, as nearly every one is, and of `more`. Files have millions of bytes:
/// looking at all of them together takes a tenth.
fn is_plain(text: &str, more: impl Fn(u8) -> bool) -> bool {
    let plain = |b: u8| (b' '..=b'~').contains(&b) & !matches!(b, b'"' | b'\'' | b'`' | b'\\');
    text.bytes().fold(true, |all, b| all & (plain(b) | more(b)))
}

/// Control, format, separator and non-characters: nothing a reader of the file could see.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

impl Text {
    /// Reads a line.
    ///
    /// # Errors
    /// An empty or overlong text, or one with a character that [`forbidden`] names.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.chars().all(char::is_whitespace) {
            return Err(TextError("is empty".to_owned()));
        }
        if text.len() > TEXT_MAX {
            return Err(TextError(format!("is longer than {TEXT_MAX} bytes")));
        }
        match forbidden(text) {
            Some(c) => Err(TextError(format!("holds {}, which cannot be written into a rule file", describe(c)))),
            None => Ok(Self(text.into())),
        }
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A character for a message: visible ones as they are, others by number.
#[must_use]
pub fn describe(c: char) -> String {
    if is_invisible(c) { format!("U+{:04X}", u32::from(c)) } else { format!("`{c}`") }
}

/// A user's own text inside a message: cut to a length that can be read, with invisible characters made visible.
#[must_use]
pub fn quoted(text: &str) -> String {
    quoted_to(text, 80)
}

/// The same, cut to another length: for what another program says, which is long where it matters.
#[must_use]
pub fn quoted_to(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == most {
            out.push('…');
            break;
        }
        if is_invisible(c) { out.push_str(&format!("<{}>", describe(c))) } else { out.push(c) }
    }
    out
}

/// A text of somebody else's that is shown and never printed into a rule file: anything on one line that can be seen.
///
/// # Errors
/// The first character that cannot.
pub fn visible(text: &str) -> Result<&str, TextError> {
    match text.chars().find(|&c| is_invisible(c)) {
        Some(c) => Err(TextError(format!("holds {}, which cannot be seen", describe(c)))),
        None => Ok(text),
    }
}

/// Bytes that are no text of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What they are instead; it goes on after the file's name.
    pub what: String,
    /// What is to be done.
    pub help: String,
    /// The text as far as it can be shown, and the place in it; none of it where every byte is foreign.
    pub shown: Option<(String, Range<usize>)>,
}

/// Reads bytes as UTF-8, with or without a mark at the beginning.
///
/// # Errors
/// What the bytes seem to be: editors on Windows write UTF-16 and Windows-1252, and neither is seen on their screens.
pub fn decode(bytes: Vec<u8>) -> Result<String, Foreign> {
    // Text of Western letters is every other byte 0 in UTF-16, and would be good UTF-8 as far as that goes.
    let utf16 =
        matches!(*bytes.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=0x7f, ..] | [1..=0x7f, 0, ..]);
    if utf16 {
        let what = "is UTF-16 from line 1 on, and only UTF-8 is read".to_owned();
        let help =
            "save it as UTF-8; Notepad has that under Save As > Encoding, PowerShell as `-Encoding utf8`".to_owned();
        return Err(Foreign { what, help, shown: None });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
            let byte = bytes.get(at).copied().unwrap_or_default();
            // What holds zeros is no text in any encoding of single bytes.
            let is_text = !bytes.contains(&0);
            let guess = windows_1252(byte)
                .filter(|_| is_text)
                .map(|c| format!(", which is `{c}` in Windows-1252"))
                .unwrap_or_default();
            let shown = String::from_utf8_lossy(bytes).into_owned();
            Err(Foreign {
                what: format!("is not UTF-8: line {line} holds the byte 0x{byte:02X}{guess}"),
                help: "save it as UTF-8".to_owned(),
                shown: Some((shown, at..at + char::REPLACEMENT_CHARACTER.len_utf8())),
            })
        }
    }
}

/// The letter or sign that a byte above ASCII is in Windows-1252, where it is one that texts have.
fn windows_1252(byte: u8) -> Option<char> {
    match byte {
        0x80 => Some('€'),
        0x85 => Some('…'),
        0x91..=0x94 => ['‘', '’', '“', '”'].get(usize::from(byte - 0x91)).copied(),
        0x96 => Some('–'),
        0x97 => Some('—'),
        // No-break space and soft hyphen cannot be seen.
        0xa1..=0xac | 0xae..=0xff => Some(char::from(byte)),
        _ => None,
    }
}

/// Whether a line is one that `git merge` puts around what it could not join.
#[must_use]
pub fn is_conflict_marker(line: &str) -> bool {
    ["<<<<<<< ", ">>>>>>> ", "||||||| "].iter().any(|mark| line.starts_with(mark)) || line.trim_end() == "======="
}

/// What is said of such a line.
pub const CONFLICT: &str = "a merge conflict in this file is not resolved";

/// A short name in lower case: letters and digits, with single hyphens between. It can be part of any target's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Short);

/// Longest id, in characters: what is left of pf's 31 for a table name after a prefix and a number.
pub const ID_MAX: usize = 28;

impl Id {
    /// Reads an id such as `update-scale`.
    ///
    /// # Errors
    /// Anything else: upper case, underscores, a digit first, double hyphens, more than [`ID_MAX`] characters.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let good = text.len() <= ID_MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.as_bytes().windows(2).any(|two| two == b"--");
        if good {
            Ok(Self(text.into()))
        } else {
            Err(TextError(format!(
                "is no id: lower-case letters, digits and single hyphens, a letter first, at most {ID_MAX} characters"
            )))
        }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id with underscores, for targets whose names hold no hyphen. Ids hold no underscore, so two ids stay two.
    #[must_use]
    pub fn underscored(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_texts_are_refused() {
        for text in [
            "",
            " ",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\"b",
            "a'b",
            "a\\b",
            "a`b",
            "\u{202e}abc",
            "a\u{2028}b",
            "\u{feff}a",
            "a\u{85}b",
        ] {
            assert!(Text::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(Text::parse(&"a".repeat(TEXT_MAX + 1)).is_err());
        assert!(Text::parse("Updates; until 25.10.1 (SCALE) #1 {x} $y ü").is_ok());
    }

    #[test]
    fn lines_are_counted_however_many() {
        for text in ["", "a", "\n", "a\nb\n", &"\n".repeat(255), &"\n".repeat(256), &"ab\n".repeat(1000)] {
            assert_eq!(line_ends(text), text.matches('\n').count());
        }
    }

    #[test]
    fn ids_have_one_shape() {
        for text in ["", "A", "a_b", "a--b", "-a", "a-", "1a", "a b", "a\n", &"a".repeat(ID_MAX + 1)] {
            assert!(Id::parse(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(Id::parse("update-scale-2").unwrap().underscored(), "update_scale_2");
    }

    #[test]
    fn other_encodings_are_named() {
        let what = |bytes: &[u8]| decode(bytes.to_vec()).map_err(|foreign| foreign.what);
        assert_eq!(what("\u{feff}site: Köln".as_bytes()), Ok("site: Köln".to_owned()));
        assert_eq!(what(b""), Ok(String::new()));
        for bytes in [b"\xff\xfes\0i\0".as_slice(), b"\xfe\xff\0s\0i", b"s\0i\0", b"\0s\0i"] {
            assert_eq!(what(bytes), Err("is UTF-16 from line 1 on, and only UTF-8 is read".to_owned()), "{bytes:?}");
        }
        let said = |byte: &str| Err(format!("is not UTF-8: line 2 holds the byte {byte}"));
        assert_eq!(what(b"a\nb\xf6"), said("0xF6, which is `ö` in Windows-1252"));
        assert_eq!(what(b"a\nb\x93c"), said("0x93, which is `“` in Windows-1252"));
        assert_eq!(what(b"a\nb\x81"), said("0x81"));
        assert_eq!(what(b"a\n\0\xf6"), said("0xF6"));
        let (text, range) = decode(b"a\nb\xf6c".to_vec()).unwrap_err().shown.unwrap();
        assert_eq!(&text[range], "\u{fffd}");
    }
}
