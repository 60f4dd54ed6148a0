//! The YAML that people write nearly always, read at once: lists and keys with values, one below the other or between
//! brackets on one line, and plain or quoted texts on one line, in ASCII. Whatever is not of that kind, or does not fit
//! the type, is [`Unusual`]; then `serde_saphyr` reads the text from its beginning, and all errors are its own.
//!
//! serde_saphyr needs 470 instructions a byte of the built-in catalog, which was seven tenths of a small run: with this
//! one the whole run needs 55 million instructions instead of 125. Tests hold it to serde_saphyr: what this accepts, that
//! accepts, with the same values and places.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

/// How [`Spanned`](super::Spanned) asks for a place.
pub(super) const SPANNED: &str = "outgate::yaml::Spanned";
/// Containers in containers; serde_saphyr says what is wrong with more.
const DEEPEST: usize = 32;

/// The text is for the other reader.
#[derive(Debug)]
pub(super) struct Unusual;

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not the usual YAML")
    }
}

impl std::error::Error for Unusual {}

impl serde::de::Error for Unusual {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

type Outcome<T> = Result<T, Unusual>;

/// Reads a text whose root is keys with values, of `nodes` nodes at most.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str, nodes: usize) -> Outcome<T> {
    // Of all bytes together it is seen in a tenth of the time.
    if !text.bytes().fold(true, |usual, byte| usual & ((byte == b'\n') | (b' '..=b'~').contains(&byte))) {
        return Err(Unusual);
    }
    let mut reader = Reader { text, at: 0, fresh: true, depth: 0, nodes };
    match reader.line() {
        Some(0) if reader.byte(reader.at) != Some(b'-') => {}
        _ => return Err(Unusual),
    }
    let value = T::deserialize(Value { reader: &mut reader, place: Place::Block { column: 0 } })?;
    reader.end_line()?;
    if reader.line().is_some() { Err(Unusual) } else { Ok(value) }
}

/// How far the text was read.
struct Reader<'de> {
    text: &'de str,
    at: usize,
    /// Nothing of the line at `at` was read yet.
    fresh: bool,
    depth: usize,
    /// Nodes that may still come.
    nodes: usize,
}

/// Where a value stands.
#[derive(Clone, Copy)]
enum Place {
    /// Between brackets.
    Flow,
    /// On the line of its key or its dash.
    Line,
    /// At the beginning of a line, or behind a dash: keys or dashes that all stand in one column.
    Block { column: usize },
    /// Dashes right below the key they belong to.
    Flush { column: usize },
    /// Nowhere: a key without a value.
    Nothing,
}

/// A text, and whether quotes say that it is one.
struct Scalar<'de> {
    text: Cow<'de, str>,
    quoted: bool,
}

impl<'de> Reader<'de> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn rest(&self) -> &'de str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_spaces(&mut self) {
        while self.byte(self.at) == Some(b' ') {
            self.at += 1;
        }
    }

    /// Goes to the next line that says something; its indentation. Nothing at the end.
    fn line(&mut self) -> Option<usize> {
        loop {
            let indent = self.rest().bytes().take_while(|byte| *byte == b' ').count();
            match self.byte(self.at + indent)? {
                b'\n' => self.at += indent + 1,
                b'#' => self.at = self.text.get(self.at..)?.find('\n').map_or(self.text.len(), |end| self.at + end + 1),
                _ => return Some(indent),
            }
        }
    }

    /// What stands behind a value must be a comment or nothing.
    fn end_line(&mut self) -> Outcome<()> {
        if self.fresh {
            return Ok(());
        }
        let begin = self.at;
        self.skip_spaces();
        match self.byte(self.at) {
            None => {}
            Some(b'\n') => self.at += 1,
            Some(b'#') if self.at > begin => {
                self.at = self.rest().find('\n').map_or(self.text.len(), |end| self.at + end + 1);
            }
            Some(_) => return Err(Unusual),
        }
        self.fresh = true;
        Ok(())
    }

    /// Where a key ends that begins here, if one does: letters, digits, `_`, `-` and `.`, then `: ` or a `:` at the end of
    /// the line.
    fn key_end(&self) -> Option<usize> {
        let bytes = self.rest().as_bytes();
        let length = bytes.iter().take_while(|&&byte| IN_KEY[usize::from(byte)]).count();
        let begins = bytes.first().is_some_and(u8::is_ascii_alphabetic);
        let ends = bytes.get(length) == Some(&b':') && matches!(bytes.get(length + 1), None | Some(b' ' | b'\n'));
        (begins && ends).then_some(self.at + length)
    }

    /// Reads a key and its `:`.
    fn key(&mut self) -> Outcome<Key<'de>> {
        let end = self.key_end().ok_or(Unusual)?;
        let key = Key { text: self.text.get(self.at..end).ok_or(Unusual)?, begin: self.at };
        self.at = end + 1;
        self.fresh = false;
        if is_other_than_text(key.text) { Err(Unusual) } else { Ok(key) }
    }

    fn scalar(&mut self, place: Place) -> Outcome<Scalar<'de>> {
        self.count()?;
        match (place, self.byte(self.at)) {
            (Place::Flow | Place::Line, Some(b'\'')) => self.single_quoted(),
            (Place::Flow | Place::Line, Some(b'"')) => {
                let text = self.rest().get(1..).ok_or(Unusual)?;
                let length = text.bytes().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).ok_or(Unusual)?;
                if text.as_bytes().get(length) != Some(&b'"') {
                    return Err(Unusual);
                }
                self.at += length + 2;
                Ok(Scalar { text: Cow::Borrowed(text.get(..length).ok_or(Unusual)?), quoted: true })
            }
            (Place::Flow | Place::Line, Some(first)) if is_first_of_plain(first) => {
                let text = self.plain(matches!(place, Place::Flow))?;
                self.at += text.len();
                if text.eq_ignore_ascii_case("null") {
                    Err(Unusual)
                } else {
                    Ok(Scalar { text: text.into(), quoted: false })
                }
            }
            _ => Err(Unusual),
        }
    }

    fn single_quoted(&mut self) -> Outcome<Scalar<'de>> {
        let text = self.rest().get(1..).ok_or(Unusual)?;
        let (mut length, mut doubled) = (0, false);
        loop {
            let mut rest = text.get(length..).unwrap_or_default().bytes();
            length += rest.position(|byte| matches!(byte, b'\'' | b'\n')).ok_or(Unusual)?;
            match text.as_bytes().get(length..length + 2) {
                _ if text.as_bytes().get(length) == Some(&b'\n') => return Err(Unusual),
                Some(b"''") => (length, doubled) = (length + 2, true),
                _ => break,
            }
        }
        self.at += length + 2;
        let text = text.get(..length).ok_or(Unusual)?;
        let text = if doubled { Cow::Owned(text.replace("''", "'")) } else { Cow::Borrowed(text) };
        Ok(Scalar { text, quoted: true })
    }

    /// A text without quotes, as far as it reaches on its line.
    fn plain(&self, flow: bool) -> Outcome<&'de str> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut end = 0;
        loop {
            // Nearly every byte goes on, whatever stands before and behind it.
            end +=
                bytes.get(end..).unwrap_or_default().iter().take_while(|&&byte| !ENDS_PLAIN[usize::from(byte)]).count();
            let next = bytes.get(end + 1);
            match bytes.get(end) {
                Some(b'\n') if flow => return Err(Unusual),
                None | Some(b'\n') => break,
                Some(b',' | b']' | b'}') if flow => break,
                Some(b'[' | b'{') if flow => return Err(Unusual),
                Some(b':') if matches!(next, None | Some(b' ' | b'\n')) => return Err(Unusual),
                Some(b':') if flow && matches!(next, Some(b',' | b'[' | b']' | b'{' | b'}')) => return Err(Unusual),
                Some(b'#') if bytes.get(..end).is_some_and(|before| before.ends_with(b" ")) => {
                    if flow {
                        return Err(Unusual);
                    }
                    break;
                }
                Some(_) => end += 1,
            }
        }
        while bytes.get(..end).is_some_and(|text| text.ends_with(b" ")) {
            end -= 1;
        }
        rest.get(..end).ok_or(Unusual)
    }

    /// One node more.
    fn count(&mut self) -> Outcome<()> {
        self.nodes = self.nodes.checked_sub(1).ok_or(Unusual)?;
        Ok(())
    }

    /// Into a container.
    fn enter(&mut self) -> Outcome<()> {
        self.count()?;
        self.depth += 1;
        if self.depth > DEEPEST { Err(Unusual) } else { Ok(()) }
    }

    /// The next item between brackets: whether there is one. Goes behind the closing bracket.
    fn flow_item(&mut self, close: u8, first: bool) -> Outcome<bool> {
        self.skip_spaces();
        match self.byte(self.at) {
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                return Ok(false);
            }
            Some(b',') if !first => {
                self.at += 1;
                self.skip_spaces();
            }
            Some(_) if first => {}
            _ => return Err(Unusual),
        }
        // A comma that nothing follows.
        if self.byte(self.at) == Some(close) { Err(Unusual) } else { Ok(true) }
    }

    /// The next key or dash of a column: whether there is one.
    fn block_item(&mut self, column: usize, first: bool, dash: bool) -> Outcome<bool> {
        // The first stands here.
        if !first {
            self.end_line()?;
            let indent = self.line();
            let goes_on = match indent {
                Some(indent) if indent > column => return Err(Unusual),
                Some(indent) if indent == column => self.byte(self.at + column) == Some(b'-') || !dash,
                _ => false,
            };
            if !goes_on {
                self.depth -= 1;
                return Ok(false);
            }
        }
        if self.fresh {
            self.at += column;
            self.fresh = false;
        }
        Ok(true)
    }

    /// Where the value of a key of this column stands.
    fn value_of_key(&mut self, column: usize) -> Outcome<Place> {
        self.skip_spaces();
        if !matches!(self.byte(self.at), None | Some(b'\n' | b'#')) {
            return Ok(Place::Line);
        }
        // A `#` right behind the `:` would not have made it a key.
        if self.byte(self.at) == Some(b'#') {
            self.at -= 1;
        }
        self.end_line()?;
        let Some(indent) = self.line() else { return Ok(Place::Nothing) };
        let dash = self.byte(self.at + indent) == Some(b'-');
        Ok(match indent {
            _ if indent > column => Place::Block { column: indent },
            _ if indent == column && dash => Place::Flush { column },
            _ => Place::Nothing,
        })
    }

    /// Goes behind a dash; where its value stands.
    fn value_of_dash(&mut self, column: usize) -> Outcome<Place> {
        if self.byte(self.at) != Some(b'-') || self.byte(self.at + 1) != Some(b' ') {
            return Err(Unusual);
        }
        let dash = self.at;
        self.at += 1;
        self.skip_spaces();
        if self.key_end().is_some() { Ok(Place::Block { column: column + self.at - dash }) } else { Ok(Place::Line) }
    }
}

/// The bytes that may end a text without quotes.
const ENDS_PLAIN: [bool; 256] = table(b"\n,]}[{:#");

/// The bytes that keys are of.
const IN_KEY: [bool; 256] = table(b"0123456789-._abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

/// Whether a byte is one of these, by its number: a text has millions, and each is looked up.
const fn table(mut these: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    while let [byte, rest @ ..] = these {
        table[*byte as usize] = true;
        these = rest;
    }
    table
}

/// A text that is read as something else where it is not asked for as a text.
fn is_other_than_text(text: &str) -> bool {
    let words: &[&str] = match text.len() {
        1 => &["y", "n"],
        2 => &["no", "on"],
        3 => &["yes", "off", "nan", "inf", "nil"],
        4 => &["null", "true"],
        5 => &["false"],
        8 => &["infinity"],
        _ => &[],
    };
    !text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'$')
        || words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn is_first_of_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'$' | b'_' | b'.' | b'(')
}

/// One value, for whoever knows its type.
struct Value<'a, 'de> {
    reader: &'a mut Reader<'de>,
    place: Place,
}

impl<'de> Value<'_, 'de> {
    fn scalar(self) -> Outcome<Scalar<'de>> {
        self.reader.scalar(self.place)
    }

    /// A whole number without a sign, as everybody writes it.
    fn number(self) -> Outcome<u64> {
        let scalar = self.scalar()?;
        let plain = !scalar.quoted && scalar.text.bytes().all(|byte| byte.is_ascii_digit());
        let usual = plain && scalar.text.len() < 19 && (scalar.text == "0" || !scalar.text.starts_with('0'));
        scalar.text.parse().ok().filter(|_| usual).ok_or(Unusual)
    }

    fn next(&self) -> Option<u8> {
        match self.place {
            Place::Block { column } | Place::Flush { column } => {
                self.reader.byte(self.reader.at + if self.reader.fresh { column } else { 0 })
            }
            Place::Flow | Place::Line => self.reader.byte(self.reader.at),
            Place::Nothing => None,
        }
    }
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = Unusual;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match (self.place, self.next()) {
            (Place::Flow | Place::Line, Some(b'[')) | (Place::Block { .. } | Place::Flush { .. }, Some(b'-')) => {
                self.deserialize_seq(visitor)
            }
            (Place::Flow | Place::Line, Some(b'{')) | (Place::Block { .. }, Some(_)) => self.deserialize_map(visitor),
            _ => match self.scalar()? {
                scalar if !scalar.quoted && is_other_than_text(&scalar.text) => Err(Unusual),
                scalar => visitor.visit_str(&scalar.text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match self.scalar()? {
            Scalar { text, quoted: false } if text == "true" => visitor.visit_bool(true),
            Scalar { text, quoted: false } if text == "false" => visitor.visit_bool(false),
            _ => Err(Unusual),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_i64(i64::try_from(self.number()?).map_err(Unusual::custom)?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match self.scalar()?.text {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        if matches!(self.place, Place::Nothing) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Outcome<V::Value> {
        newtype(self, name, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        let scalar = self.scalar()?;
        let name: StrDeserializer<'_, Unusual> = (&*scalar.text).into_deserializer();
        visitor.visit_enum(name)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let Self { reader, place } = self;
        reader.enter()?;
        match place {
            Place::Flow | Place::Line if reader.byte(reader.at) == Some(b'[') => {
                reader.at += 1;
                visitor.visit_seq(Flow { reader, first: true, close: b']' })
            }
            Place::Block { column } | Place::Flush { column } => visitor.visit_seq(Block::new(reader, column)),
            _ => Err(Unusual),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let Self { reader, place } = self;
        reader.enter()?;
        match place {
            Place::Flow | Place::Line if reader.byte(reader.at) == Some(b'{') => {
                reader.at += 1;
                visitor.visit_map(Once { keys: Flow { reader, first: true, close: b'}' }, seen: Seen::default() })
            }
            Place::Block { column } => {
                visitor.visit_map(Once { keys: Block::new(reader, column), seen: Seen::default() })
            }
            _ => Err(Unusual),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        self.deserialize_map(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_u64(visitor)
    }

    // Nothing that is read asks for these; what they are is found out as for any.
    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// Something that is read out of the text, and its place.
trait Placed<'de> {
    fn read<T: DeserializeSeed<'de>>(self, seed: T) -> Outcome<(T::Value, Range<usize>)>;
}

impl<'de> Placed<'de> for Value<'_, 'de> {
    fn read<T: DeserializeSeed<'de>>(self, seed: T) -> Outcome<(T::Value, Range<usize>)> {
        let Self { reader, place } = self;
        let begin = match place {
            Place::Block { column } if reader.fresh => reader.at + column,
            // As serde_saphyr has it: such a list begins behind its first dash.
            Place::Flush { column } => {
                let behind = reader.text.get(reader.at + column + 1..).unwrap_or_default();
                reader.at + column + 1 + behind.bytes().take_while(|byte| *byte == b' ').count()
            }
            Place::Flow | Place::Line | Place::Block { .. } => reader.at,
            Place::Nothing => return Err(Unusual),
        };
        let opens = matches!(reader.byte(begin), Some(b'[' | b'{'));
        let value = seed.deserialize(Value { reader: &mut *reader, place })?;
        // Of a container it is the place where it begins.
        let end = match place {
            Place::Flow | Place::Line if opens => begin + 1,
            Place::Flow | Place::Line => reader.at,
            _ => begin,
        };
        Ok((value, begin..end))
    }
}

impl<'de> Placed<'de> for Key<'de> {
    fn read<T: DeserializeSeed<'de>>(self, seed: T) -> Outcome<(T::Value, Range<usize>)> {
        Ok((seed.deserialize(self)?, self.begin..self.begin + self.text.len()))
    }
}

/// What a newtype is made of: the value, or the value with its place.
fn newtype<'de, P, V>(placed: P, name: &str, visitor: V) -> Outcome<V::Value>
where
    P: Placed<'de> + Deserializer<'de, Error = Unusual>,
    V: Visitor<'de>,
{
    if name == SPANNED {
        visitor.visit_seq(Spanning { value: Some(placed), range: 0..0, said: 0 })
    } else {
        visitor.visit_newtype_struct(placed)
    }
}

/// A value and its place: the value, then first byte and last.
struct Spanning<P> {
    value: Option<P>,
    range: Range<usize>,
    said: u8,
}

impl<'de, P: Placed<'de>> SeqAccess<'de> for Spanning<P> {
    type Error = Unusual;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        self.said += 1;
        match (self.value.take(), self.said) {
            (Some(placed), _) => {
                let (value, range) = placed.read(seed)?;
                self.range = range;
                Ok(Some(value))
            }
            (None, 2) => seed.deserialize(self.range.start.into_deserializer()).map(Some),
            (None, 3) => seed.deserialize(self.range.end.into_deserializer()).map(Some),
            _ => Ok(None),
        }
    }
}

/// A key, and its first byte.
#[derive(Clone, Copy)]
struct Key<'de> {
    text: &'de str,
    begin: usize,
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Unusual;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Outcome<V::Value> {
        newtype(self, name, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        let name: StrDeserializer<'_, Unusual> = self.text.into_deserializer();
        visitor.visit_enum(name)
    }

    // A key is a text. Who wants another thing of it gets an error, and the other reader.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

/// Items or keys between brackets on one line.
struct Flow<'a, 'de> {
    reader: &'a mut Reader<'de>,
    first: bool,
    close: u8,
}

impl<'de> SeqAccess<'de> for Flow<'_, 'de> {
    type Error = Unusual;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        let first = std::mem::take(&mut self.first);
        if !self.reader.flow_item(self.close, first)? {
            return Ok(None);
        }
        seed.deserialize(Value { reader: &mut *self.reader, place: Place::Flow }).map(Some)
    }
}

/// Items or keys below each other in one column.
struct Block<'a, 'de> {
    reader: &'a mut Reader<'de>,
    first: bool,
    column: usize,
}

impl<'a, 'de> Block<'a, 'de> {
    fn new(reader: &'a mut Reader<'de>, column: usize) -> Self {
        Self { reader, first: true, column }
    }
}

impl<'de> SeqAccess<'de> for Block<'_, 'de> {
    type Error = Unusual;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        let first = std::mem::take(&mut self.first);
        if !self.reader.block_item(self.column, first, true)? {
            return Ok(None);
        }
        let place = self.reader.value_of_dash(self.column)?;
        seed.deserialize(Value { reader: &mut *self.reader, place }).map(Some)
    }
}

/// Keys one by one, each with its value behind it.
trait Keys<'de> {
    fn next_key(&mut self) -> Outcome<Option<Key<'de>>>;
    fn value(&mut self) -> Outcome<Value<'_, 'de>>;
}

impl<'de> Keys<'de> for Flow<'_, 'de> {
    fn next_key(&mut self) -> Outcome<Option<Key<'de>>> {
        let first = std::mem::take(&mut self.first);
        if self.reader.flow_item(self.close, first)? { self.reader.key().map(Some) } else { Ok(None) }
    }

    fn value(&mut self) -> Outcome<Value<'_, 'de>> {
        self.reader.skip_spaces();
        Ok(Value { reader: &mut *self.reader, place: Place::Flow })
    }
}

impl<'de> Keys<'de> for Block<'_, 'de> {
    fn next_key(&mut self) -> Outcome<Option<Key<'de>>> {
        let first = std::mem::take(&mut self.first);
        if self.reader.block_item(self.column, first, false)? { self.reader.key().map(Some) } else { Ok(None) }
    }

    fn value(&mut self) -> Outcome<Value<'_, 'de>> {
        let place = self.reader.value_of_key(self.column)?;
        Ok(Value { reader: &mut *self.reader, place })
    }
}

/// The keys that stood in one map: a few of them side by side, and all of them where there are more.
#[derive(Default)]
struct Seen<'de> {
    few: [&'de str; 24],
    count: usize,
    many: BTreeSet<&'de str>,
}

impl<'de> Seen<'de> {
    /// One more; whether it is new.
    fn add(&mut self, key: &'de str) -> bool {
        let few = self.few.get(..self.count).unwrap_or_default();
        if few.contains(&key) || self.many.contains(key) {
            return false;
        }
        match self.few.get_mut(self.count) {
            Some(place) => {
                *place = key;
                self.count += 1;
            }
            None => _ = self.many.insert(key),
        }
        true
    }
}

/// Keys with values, none of them twice.
struct Once<'de, K> {
    keys: K,
    seen: Seen<'de>,
}

impl<'de, K: Keys<'de>> MapAccess<'de> for Once<'de, K> {
    type Error = Unusual;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        let Some(key) = self.keys.next_key()? else { return Ok(None) };
        if !self.seen.add(key.text) {
            return Err(Unusual);
        }
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<T::Value> {
        seed.deserialize(self.keys.value()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{Spanned, Word, read_any};
    use super::*;

    /// Any YAML, with every place.
    #[derive(Debug, PartialEq)]
    enum Node {
        Text(String),
        Other(String),
        List(Vec<Spanned<Self>>),
        Keys(Vec<(Spanned<String>, Spanned<Self>)>),
    }

    impl<'de> Deserialize<'de> for Node {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Nodes;
            impl<'de> Visitor<'de> for Nodes {
                type Value = Node;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("anything")
                }
                fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                    Ok(Node::Text(text.to_owned()))
                }
                fn visit_unit<E>(self) -> Result<Node, E> {
                    Ok(Node::Other("null".to_owned()))
                }
                fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                    Ok(Node::Other(value.to_string()))
                }
                fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                    Ok(Node::Other(value.to_string()))
                }
                fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                    Ok(Node::Other(value.to_string()))
                }
                fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                    Ok(Node::Other(value.to_string()))
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                    let mut all = Vec::new();
                    while let Some(item) = list.next_element()? {
                        all.push(item);
                    }
                    Ok(Node::List(all))
                }
                fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<Node, A::Error> {
                    let mut all = Vec::new();
                    while let Some(entry) = keys.next_entry()? {
                        all.push(entry);
                    }
                    Ok(Node::Keys(all))
                }
            }
            deserializer.deserialize_any(Nodes)
        }
    }

    /// Types that ask for what they want, as those of profile and catalog do.
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Asking<'a> {
        #[serde(borrow)]
        name: Option<Spanned<Word<'a>>>,
        count: Option<Spanned<i64>>,
        #[serde(default)]
        small: Option<u16>,
        flag: Option<Spanned<bool>>,
        list: Option<Spanned<Vec<Spanned<Word<'a>>>>>,
        #[serde(default)]
        many: BTreeMap<String, Option<Box<Self>>>,
        #[serde(default)]
        each: Vec<Self>,
        word: Option<Mark>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mark {
        Good,
        Bad,
    }

    /// What is accepted is what serde_saphyr makes of it; whether it was.
    fn agrees<'a, T: Deserialize<'a> + fmt::Debug + PartialEq>(text: &'a str) -> bool {
        match read::<T>(text, 10_000) {
            Ok(ours) => match read_any::<T>(text) {
                Ok(theirs) => assert_eq!(ours, theirs, "{text}"),
                Err(error) => panic!("{text}\nwas read as {ours:?}, but {error}"),
            },
            Err(Unusual) => return false,
        }
        true
    }

    const TEXTS: [&str; 4] = [
        "# A comment.\na: b\nc-d: 'it''s' # c\nlist: [a, \"b: c\", 'd, e', f/g, h:i]\nmap: {a: b, c: [d], e: {}}\nrest:\n  - a: b\n    c: d\n\n  - a:\n      - e\n    c: [ ]\n  - text, with: colon\n",
        "name: x\ncount: 12\nsmall: 3\nflag: true\nlist: [\"1\", 2, a]\nmany:\n  a: {name: z}\n  b:\n    list:\n    - one\n    - two # and\n  c:\neach:\n- name: q\n  each: []\n- {count: 0, word: bad}\nword: good\n",
        "list:\n  - 443/tcp\n  - $.a[0]\nmany: {}\nname: (none) of # these\n",
        "one:\n  two:\n    three: 'x'\n    four: /y/z.w\n  five: a b  c   \nsix: [a: b, c]\n",
    ];

    #[test]
    fn what_is_usual_is_read_as_it_is_everywhere() {
        let accepted = TEXTS.map(|text| (agrees::<Node>(text), agrees::<Asking>(text)));
        assert_eq!(accepted, [(false, false), (false, true), (false, true), (false, false)]);
        for text in ["a: [b, {c: d}]\n", "a:\n- b: c\n  d: 'e'\n", "a: 'x'\nb:\n  c:\n    d: $e\n", "a: b"] {
            assert!(agrees::<Node>(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_is_left_alone() {
        for text in [
            "a: b\na: c\n",
            "a: |\n  b\n",
            "a: >-\n  b\n",
            "a: b\n  c\n",
            "a: &x b\n",
            "a: *x\n",
            "a: !t b\n",
            "? a\n: b\n",
            "a: [b,\n  c]\n",
            "a: \"\\n\"\n",
            "a: \tb\n",
            "\u{feff}a: b\n",
            "a: ü\n",
            "- a\n",
            "a: b: c\n",
            "a: [b, ]\n",
            "a:b\n",
            "---\na: b\n",
            "a: b\n---\nc: d\n",
            "a: b\n...\n",
            "%YAML 1.2\n",
            "a: 'b' c\n",
            "a: 'b'#c\n",
            "a: [b] c\n",
            "a: ~\n",
            "a: null\n",
            "a: {b}\n",
            "a: {b: }\n",
            "a:\n  - - b\n",
            "<<: {a: b}\n",
            "a: 'b\n  c'\n",
            "'a': b\n",
            "",
            "\n",
            "a: b\r\n",
        ] {
            assert!(read::<Node>(text, 100).is_err(), "{text:?}");
        }
        assert!(read::<Node>("a: b\n", 1).is_err(), "more nodes than a file may hold");
        let deep = format!("a: {}b{}\n", "[".repeat(40), "]".repeat(40));
        assert!(read::<Node>(&deep, 100).is_err());
    }

    #[test]
    fn a_key_stands_once_among_few_and_among_many() {
        let keys = |count: usize| -> String { (0..count).map(|i| format!("k{i}: v\n")).collect() };
        for count in [1, 23, 24, 25, 40] {
            assert!(agrees::<Node>(&keys(count)), "{count}");
            for again in [0, count / 2, count - 1] {
                let text = format!("{}k{again}: v\n", keys(count));
                assert!(read::<Node>(&text, 100).is_err(), "{text}");
            }
        }
    }

    /// Pieces that mean something in YAML.
    const PIECES: [&str; 46] = [
        " ", "  ", "\n", "- ", "-", ": ", ":", "#", " #", "'", "''", "\"", "[", "]", "{", "}", ",", ", ", "a", "1",
        "0", "01", "null", "~", "|", ">", "&a", "*a", "!", "?", "? ", "\\", ".", "---\n", "...\n", "true", "no", "a: ",
        "\n  ", "\n- ", "\n    ", "a: b\n", "1.5", "<<", "%", "@",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30_000))]

        /// Texts that are nearly as people write them: where this reader accepts one, the other reads the same in it.
        #[test]
        fn near_misses_are_read_as_they_are_everywhere(
            which in 0..TEXTS.len(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, 0..PIECES.len()), 1..6),
        ) {
            let mut text = TEXTS[which].to_owned();
            for (at, take, piece) in edits {
                let at = at.index(text.len() + 1);
                text.replace_range(at..(at + take).min(text.len()), PIECES[piece]);
            }
            agrees::<Node>(&text);
            agrees::<Asking>(&text);
            agrees::<BTreeMap<String, Spanned<String>>>(&text);
        }

        #[test]
        fn texts_of_pieces_are_read_as_they_are_everywhere(pieces in prop::collection::vec(0..PIECES.len(), 1..14)) {
            let text: String = ["a: "].into_iter().chain(pieces.into_iter().map(|at| PIECES[at])).collect();
            agrees::<Node>(&text);
            agrees::<Asking>(&text);
        }
    }
}
