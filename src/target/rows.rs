//! Rows: values of one shape, such as the rules of a target, and the piece of a template that is written for each of them.
//!
//! The texts of all rows lie one behind the other, and reach a template as one value: a value for each, of which a site has a
//! hundred thousand for each target, was half of a large run. A template may loop over rows; ours are filled here, for a step of
//! the template engine costs as much as a hundred bytes of the file: a site of 10,000 hosts with pf alone takes 0.92 of the time.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::text::{self, Id, Text};

/// One text of a row.
pub(super) trait Cell {
    /// Writes it behind what is there.
    fn write(&self, out: &mut String);
}

impl Cell for &str {
    fn write(&self, out: &mut String) {
        out.push_str(self);
    }
}

impl Cell for String {
    fn write(&self, out: &mut String) {
        out.push_str(self);
    }
}

impl Cell for Cow<'_, str> {
    fn write(&self, out: &mut String) {
        out.push_str(self);
    }
}

impl Cell for Id {
    fn write(&self, out: &mut String) {
        out.push_str(self.as_str());
    }
}

impl Cell for Text {
    fn write(&self, out: &mut String) {
        out.push_str(self.as_str());
    }
}

impl Cell for usize {
    fn write(&self, out: &mut String) {
        // Writing to a text does not fail.
        let _ = write!(out, "{self}");
    }
}

/// What is written only into the row, and has no text of its own before.
impl<F: Fn(&mut String)> Cell for F {
    fn write(&self, out: &mut String) {
        self(out);
    }
}

/// About how many bytes a row has.
const ROW: usize = 128;

/// Rows as they come.
pub(super) struct Rows<const N: usize>(Table);

impl<const N: usize> Rows<N> {
    pub(super) fn new(columns: &'static [&'static str; N]) -> Self {
        let many = vec![false; N];
        Self(Table { columns, text: String::new(), forbidden: None, ends: Vec::new(), order: Vec::new(), many })
    }

    /// With room for so many rows of short cells: a table of millions does not move while it grows.
    pub(super) fn room_for(mut self, rows: usize) -> Self {
        self.0.text.reserve(ROW * rows);
        self.0.ends.reserve(N * rows);
        self.0.order.reserve(rows);
        self
    }

    pub(super) fn push(&mut self, cells: [&dyn Cell; N]) {
        let Table { text, ends, order, many, .. } = &mut self.0;
        order.push(order.len());
        for (cell, many) in cells.into_iter().zip(many) {
            let begin = text.len();
            cell.write(text);
            *many = *many || text.bytes().skip(begin).any(|byte| byte == b'\n');
            ends.push(text.len());
        }
    }

    /// All of them, in the order in which they came.
    pub(super) fn done(mut self) -> Table {
        self.0.text.shrink_to_fit();
        self.0.forbidden = text::forbidden_in_lines(&self.0.text);
        self.0
    }

    /// All of them, by their first column.
    pub(super) fn sorted(mut self) -> Table {
        let mut order = std::mem::take(&mut self.0.order);
        order.sort_unstable_by(|&a, &b| self.0.cell(a, 0).cmp(self.0.cell(b, 0)).then(a.cmp(&b)));
        self.0.order = order;
        self.done()
    }
}

/// A table of one row that is one cell of many lines; of none, where there is no line.
pub(super) fn lines_alone(column: &'static [&'static str; 1], lines: &dyn Cell) -> Table {
    let mut rows = Rows::new(column);
    rows.push([lines]);
    if rows.0.text.is_empty() {
        rows = Rows::new(column);
    }
    rows.done()
}

/// Every row there is. The texts of all lie one behind the other: a text for each would be millions of small ones.
#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [&'static str],
    text: String,
    /// What stands in some cell and may not be written: a table is filled into several places, and looked at once.
    forbidden: Option<char>,
    /// Where each cell ends, row by row as they came.
    ends: Vec<usize>,
    /// The rows in their order, by when they came.
    order: Vec<usize>,
    /// Of each column, whether a cell of it has several lines.
    many: Vec<bool>,
}

impl Table {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// About how many bytes a body of some lines makes of it.
    pub(super) fn filled_length(&self) -> usize {
        2 * self.text.len() + 100 * self.len() + 50 * text::line_ends(&self.text)
    }

    pub(super) fn columns(&self) -> &'static [&'static str] {
        self.columns
    }

    /// What stands in some cell and may not be written into a rule file.
    pub(super) fn forbidden(&self) -> Option<char> {
        self.forbidden
    }

    /// A cell by the place of its row and the name of its column.
    pub(super) fn get(&self, place: usize, column: &str) -> Option<&str> {
        let column = self.columns.iter().position(|name| *name == column)?;
        Some(self.cell(*self.order.get(place)?, column))
    }

    fn cell(&self, row: usize, column: usize) -> &str {
        let at = row * self.columns.len() + column;
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(at).and_then(|&end| self.text.get(begin..end)).unwrap_or_default()
    }

    /// The body once for each row, with its cells in the places of their names:
    ///
    /// - `[[id]]` is a cell of one line;
    /// - `[[names*]]` is a cell of many: the line of the body is written for each of them, and not at all where there is
    ///   none; of several cells the first lines stand together, then the second ones;
    /// - `[[content\n]]` is a cell of many lines as the inside of one JSON text;
    /// - `[[,]]` is a comma behind every row but the last, and in a line that is written for each line of a cell, behind every
    ///   such line but the last;
    /// - where there are `texts` for a name, a cell of that name has numbers of them instead.
    ///
    /// # Errors
    /// A place without a name of a column, a cell of several lines where one is meant, cells of different numbers of lines:
    /// a text for whoever wrote the template. And whatever `out` refuses.
    pub(super) fn fill(&self, body: &str, texts: &[(&str, Vec<&str>)], to: &mut dyn fmt::Write) -> Result<(), String> {
        let lines: Vec<Line<'_>> =
            pieces(body).into_iter().map(|piece| self.line(piece, texts)).collect::<Result<_, _>>()?;
        // A text of megabytes is not made twice.
        let mut out = String::with_capacity(2 * AT_ONCE);
        let (mut rests, mut now) = (Vec::new(), Vec::new());
        for (place, &row) in self.order.iter().enumerate() {
            let last = place + 1 == self.len();
            for line in &lines {
                if line.each.is_empty() {
                    self.write(line, row, last, &[], &mut out)?;
                    continue;
                }
                rests.clear();
                rests.extend(
                    line.each.iter().map(|&column| Some(self.cell(row, column)).filter(|cell| !cell.is_empty())),
                );
                if let (Some(Frame { before, between, end }), [rest]) = (&line.frame, rests.as_mut_slice()) {
                    out.push_str(if rest.is_some() { before } else { "" });
                    while let Some(text) = next_line(rest) {
                        out.push_str(text);
                        out.push_str(if rest.is_some() { between } else { end });
                        pass_on(&mut out, AT_ONCE, to)?;
                    }
                    continue;
                }
                while self.next_of_each(line, &mut rests, &mut now)? {
                    self.write(line, row, rests.iter().all(Option::is_none), &now, &mut out)?;
                    pass_on(&mut out, AT_ONCE, to)?;
                }
            }
            pass_on(&mut out, AT_ONCE, to)?;
        }
        pass_on(&mut out, 0, to)
    }

    fn line<'a>(&self, line: &'a str, texts: &'a [(&str, Vec<&'a str>)]) -> Result<Line<'a>, String> {
        let (mut parts, mut each) = (Vec::new(), Vec::new());
        let mut rest = line;
        while let Some((text, behind)) = rest.split_once("[[") {
            let Some((name, behind)) = behind.split_once("]]") else {
                return Err(format!("`[[{}` has no `]]`", behind.trim_end()));
            };
            rest = behind;
            parts.push(Part::Text(text));
            let column = |name: &str| {
                let known =
                    || format!("`[[{name}]]` is no column of these rows, which are: {}", self.columns.join(", "));
                self.columns.iter().position(|column| *column == name).ok_or_else(known)
            };
            let picked = |name: &str| texts.iter().find(|(of, _)| *of == name).map(|(_, texts)| texts.as_slice());
            parts.push(if name == "," {
                Part::Comma
            } else if let Some(name) = name.strip_suffix('*') {
                each.push(column(name)?);
                Part::Each(each.len() - 1, picked(name))
            } else if let Some(name) = name.strip_suffix("\\n") {
                Part::Escaped(column(name)?)
            } else {
                let column = column(name)?;
                if self.many.get(column) == Some(&true) {
                    return Err(format!("`[[{name}]]` has several lines; `[[{name}*]]` writes one for each"));
                }
                Part::One(column, picked(name))
            });
        }
        parts.push(Part::Text(rest));
        Ok(Line { frame: frame(&parts), parts, each })
    }

    /// Takes the next line of each cell. Says whether there was one.
    fn next_of_each<'a>(
        &self,
        line: &Line<'_>,
        rests: &mut [Option<&'a str>],
        now: &mut Vec<&'a str>,
    ) -> Result<bool, String> {
        now.clear();
        now.extend(rests.iter_mut().filter_map(next_line));
        if now.is_empty() || now.len() == line.each.len() {
            return Ok(!now.is_empty());
        }
        let names: Vec<&str> = line.each.iter().filter_map(|&column| self.columns.get(column)).copied().collect();
        Err(format!("{} are of different lengths", names.join(", ")))
    }

    /// Writes a line of the body for one row; `now` are the lines of its cells with many. `last`: of what a comma stands between.
    fn write(&self, line: &Line<'_>, row: usize, last: bool, now: &[&str], out: &mut String) -> Result<(), String> {
        for part in &line.parts {
            match *part {
                Part::Text(text) => out.push_str(text),
                Part::One(column, texts) => out.push_str(pick(self.cell(row, column), texts)?),
                Part::Each(place, texts) => out.push_str(pick(now.get(place).copied().unwrap_or_default(), texts)?),
                Part::Escaped(column) => {
                    for (i, text) in self.cell(row, column).split('\n').enumerate() {
                        out.push_str(if i > 0 { "\\n" } else { "" });
                        out.push_str(text);
                    }
                }
                Part::Comma => out.push_str(if last { "" } else { "," }),
            }
        }
        Ok(())
    }
}

/// Takes the next line of what is left.
fn next_line<'a>(rest: &mut Option<&'a str>) -> Option<&'a str> {
    let text = (*rest)?;
    // Lines are short: looking at byte by byte takes a third of what the search of the library does.
    let end = text.bytes().position(|byte| byte == b'\n');
    *rest = end.and_then(|end| text.get(end + 1..));
    end.map_or(Some(text), |end| text.get(..end))
}

/// So many bytes are passed on together.
const AT_ONCE: usize = 32 * 1024;

/// Passes a text on once it is long enough, and empties it.
fn pass_on(text: &mut String, long: usize, to: &mut dyn fmt::Write) -> Result<(), String> {
    if text.len() >= long {
        to.write_str(text).map_err(|error| error.to_string())?;
        text.clear();
    }
    Ok(())
}

/// A text by its number, where a cell has numbers.
fn pick<'a>(cell: &'a str, texts: Option<&[&'a str]>) -> Result<&'a str, String> {
    let Some(texts) = texts else { return Ok(cell) };
    let text = cell.parse().ok().and_then(|number: usize| texts.get(number).copied());
    text.ok_or_else(|| format!("{} texts are given, and none is number {cell}", texts.len()))
}

/// A line of a body.
struct Line<'a> {
    parts: Vec<Part<'a>>,
    /// Columns with a line for each.
    each: Vec<usize>,
    /// Where it is one such column and texts around it.
    frame: Option<Frame<'a>>,
}

/// What stands around and between the lines of one cell. Elements of sets are by far the most of a file.
struct Frame<'a> {
    before: &'a str,
    between: String,
    end: &'a str,
}

enum Part<'a> {
    Text(&'a str),
    /// A column, and the texts that its numbers are of.
    One(usize, Option<&'a [&'a str]>),
    /// A place among the columns with a line for each.
    Each(usize, Option<&'a [&'a str]>),
    Escaped(usize),
    Comma,
}

fn frame<'a>(parts: &[Part<'a>]) -> Option<Frame<'a>> {
    let (before, comma, end) = match *parts {
        [Part::Text(before), Part::Each(_, None), Part::Text(end)] => (before, "", end),
        [Part::Text(before), Part::Each(_, None), Part::Text(""), Part::Comma, Part::Text(end)] => (before, ",", end),
        _ => return None,
    };
    Some(Frame { before, between: [comma, end, before].concat(), end })
}

/// A body cut into lines that are written for each line of a cell, and what stands between those.
fn pieces(body: &str) -> Vec<&str> {
    let (mut pieces, mut begin, mut end) = (Vec::new(), 0, 0);
    for line in body.split_inclusive('\n') {
        if line.contains("*]]") {
            pieces.extend([&body[begin..end], line]);
            begin = end + line.len();
        }
        end += line.len();
    }
    pieces.push(&body[begin..]);
    pieces
}

/// A cell with a line for each item.
pub(super) fn lines<T>(items: &[T], write: impl Fn(&T, &mut String)) -> impl Fn(&mut String) {
    move |out| {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            write(item, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut rows = Rows::new(&["id", "names", "ports", "kind"]);
        rows.push([&"b", &"x\ny", &"1\n2", &"1"]);
        rows.push([&"a", &|out: &mut String| out.push('z'), &7_usize, &"0"]);
        rows.push([&"c", &"", &"", &"0"]);
        rows.done()
    }

    fn filled(table: &Table, body: &str, texts: &[(&str, Vec<&str>)]) -> Result<String, String> {
        let mut out = String::new();
        table.fill(body, texts, &mut out).map(|()| out)
    }

    #[test]
    fn a_body_is_written_for_each_row() {
        let text = filled(&table(), "\n# [[id]]\n\t- [[names*]]: [[ports*]] of [[id]]\n", &[]).unwrap();
        assert_eq!(text, "\n# b\n\t- x: 1 of b\n\t- y: 2 of b\n\n# a\n\t- z: 7 of a\n\n# c\n");
        assert_eq!(filled(&table(), "{\"[[names\\n]]\"}[[,]]\n", &[]).unwrap(), "{\"x\\ny\"},\n{\"z\"},\n{\"\"}\n");
        assert_eq!(filled(&table(), "[[names*]][[,]]\n", &[]).unwrap(), "x,\ny\nz\n");
        assert_eq!(filled(&table(), "[[names*]]=[[ports*]][[,]] ", &[]).unwrap(), "x=1, y=2 z=7 ");
        assert_eq!(filled(&table(), "[[kind]] ", &[("kind", vec!["none", "all"])]).unwrap(), "all none none ");
        assert_eq!(filled(&Rows::new(&["id"]).done(), "[[id]]", &[]).unwrap(), "");
    }

    #[test]
    fn rows_are_sorted_by_their_first_column() {
        let mut rows = Rows::new(&["id", "n"]);
        for (id, n) in [("b", "1"), ("a", "2"), ("b", "0")] {
            rows.push([&id, &n]);
        }
        let table = rows.sorted();
        assert_eq!(filled(&table, "[[id]][[n]] ", &[]).unwrap(), "a2 b1 b0 ");
        assert_eq!((table.get(0, "n"), table.get(0, "m"), table.get(3, "n")), (Some("2"), None, None));
    }

    #[test]
    fn what_is_long_is_passed_on_in_pieces_and_whole() {
        let mut rows = Rows::new(&["id", "names"]);
        let many: String = (0..20_000).map(|n| format!("name {n}\n")).collect();
        rows.push([&"a", &many.trim_end()]);
        rows.push([&"b", &"last"]);
        let expected = format!("a\n# {}\nb\n# last\n", many.trim_end().replace('\n', "\n# "));
        assert_eq!(filled(&rows.done(), "[[id]]\n# [[names*]]\n", &[]).unwrap(), expected);
    }

    #[test]
    fn a_body_that_does_not_fit_is_refused() {
        for (body, why) in [
            ("[[name]]", "`[[name]]` is no column of these rows, which are: id, names, ports, kind"),
            ("[[id", "`[[id` has no `]]`"),
            ("[[names]]", "`[[names]]` has several lines; `[[names*]]` writes one for each"),
            ("[[id*]] [[names*]]", "id, names are of different lengths"),
            ("[[ports*]] [[id*]]", "ports, id are of different lengths"),
        ] {
            assert_eq!(filled(&table(), body, &[]).unwrap_err(), why);
        }
        let few = [("kind", vec!["none"])];
        assert_eq!(filled(&table(), "[[kind]]", &few).unwrap_err(), "1 texts are given, and none is number 1");
    }
}
