//! Source rows, their layout, and sets of them.
//!
//! A [`Row`] is what a file holds, cells untouched, with its place. A [`Layout`] says which tables
//! and columns a supplier's files have and of what kind each cell is; [`Kind::read`] reads one
//! cell by its kind. A [`RowSet`] keeps rows by table and key so that related rows can be joined.
//! What the rows mean stands in the mapping tables, not here.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lumbar_fhir::{Issue, IssueType, Json, Locator, Object, Severity};

use crate::{identity, local_time, text};

mod set;

pub use set::{Link, Need, RowSet};

/// Table and key of a row. The key is `owner|key`: the GUID of the owning organisation and the
/// row's own key in lower case without braces; the owner is empty in tables that have none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Name of the table, for example `Admin_Patient`.
    pub table: Arc<str>,
    /// `owner|key`.
    pub key: String,
}

/// One row of a source file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which row it is.
    pub key: RowKey,
    /// Name of the file, without folders.
    pub file: Arc<str>,
    /// Row in the file, from 1 for the first after the header.
    pub row: u64,
    /// Order of the row among those of its file, when the file states one.
    pub processing_id: Option<i64>,
    /// When the supplier wrote the file, `yyyyMMddHHmmss` as in its name; empty when unknown.
    pub extract_time: Arc<str>,
    /// The cells that are not empty, by column name, exactly as they came.
    pub cells: Object,
}

/// How the text of a cell is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Guid,
    Date,
    Time,
    DateTime,
    Boolean,
    Decimal,
    Integer,
    Code,
    SnomedConcept,
    SnomedDescription,
    NhsNumber,
    Text,
}

/// What becomes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A mapping table takes it up.
    Mapped,
    /// It stays in the landed row; the report counts it.
    Carried,
    /// It says nothing about anybody; the comment says why.
    Ignored,
}

/// One column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Name as mapping tables use it.
    pub name: String,
    /// How its cells are read.
    pub kind: Kind,
    /// What becomes of it.
    pub disposition: Disposition,
    /// Why it is carried or ignored.
    pub comment: String,
}

/// One table of a supplier's files.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name, for example `Admin_Patient`.
    pub name: Arc<str>,
    /// Known columns.
    pub columns: Vec<Column>,
    /// Column that holds the owning organisation.
    pub owner: Option<usize>,
    /// Columns that make the key, in order.
    pub key: Vec<usize>,
    /// Places by every name of a column, in lower case.
    names: HashMap<String, usize>,
    /// Places by the name that mapping tables use.
    exact: HashMap<String, usize>,
}

/// All tables of a supplier.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    tables: Vec<Table>,
}

/// What was found in a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The value, when there is one that can be used.
    pub value: Option<Json>,
    /// What is wrong with the text.
    pub fault: Option<Fault>,
}

/// What is wrong with a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Our code.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence without the value.
    pub text: &'static str,
}

/// A table of a layout that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table}, line {line}: {reason}")]
pub struct TableError {
    /// Name of the table file.
    pub table: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u64,
    /// A sentence part that names the fault.
    pub reason: String,
}

impl Row {
    /// The text of a cell; `None` when it is empty or there is no such column.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.cells.get(column)?.as_str()
    }

    /// The place of one of its cells; of the whole row when `column` is empty.
    pub fn locator(&self, column: &str) -> Locator {
        Locator::Cell { file: self.file.to_string(), row: self.row, column: column.to_string() }
    }

    /// The owning organisation's GUID; empty in tables that have none.
    pub fn owner(&self) -> &str {
        self.key.key.split_once('|').map_or("", |(owner, _)| owner)
    }

    /// The key without the owner.
    pub fn own_key(&self) -> &str {
        self.key.key.split_once('|').map_or(self.key.key.as_str(), |(_, own)| own)
    }
}

/// A cell's text as a key writes it: lower case, no braces, no blanks at the ends.
pub fn key_text(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

impl Table {
    /// The place of a column, by its name in any case, an older name of it, or with the `*` that
    /// marks a column as unavailable.
    pub fn position(&self, header: &str) -> Option<usize> {
        let header = header.trim().trim_end_matches('*').trim_end().to_ascii_lowercase();
        self.names.get(&header).copied()
    }

    /// The column of that exact name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(*self.exact.get(name)?)
    }

    /// The key of a row of this table; the name of the column that is missing or no GUID otherwise.
    pub fn key_of(&self, cells: &Object) -> Result<String, &str> {
        let mut key = String::with_capacity(73);
        let part = |key: &mut String, index: usize| {
            let Some(column) = self.columns.get(index) else { return Err("") };
            let text = cells.get(&column.name).and_then(Json::as_str).map(str::trim);
            let text = text.filter(|text| !text.is_empty()).ok_or(column.name.as_str())?;
            match column.kind {
                Kind::Guid => key.push_str(&identity::guid(text).ok_or(column.name.as_str())?),
                _ => key.push_str(&key_text(text)),
            }
            Ok(())
        };
        if let Some(owner) = self.owner {
            part(&mut key, owner)?;
        }
        for index in &self.key {
            key.push('|');
            part(&mut key, *index)?;
        }
        Ok(key)
    }

    /// The faults of a row's cells, each with its place.
    pub fn faults(&self, row: &Row) -> Vec<Issue> {
        let mut issues = Vec::new();
        for (name, raw) in row.cells.iter() {
            let (Some(column), Some(raw)) = (self.column(name), raw.as_str()) else { continue };
            if let Some(fault) = column.kind.read(raw).fault {
                issues.push(fault.issue().located(row.locator(name)).value(raw));
            }
        }
        issues
    }
}

impl Layout {
    /// Reads a layout: a CSV text with the columns `table,column,also,kind,part,disposition,comment`.
    /// `part` is `owner`, `key` or empty; the table `*` stands for every table.
    ///
    /// # Errors
    /// The first line that cannot be understood.
    pub fn parse(name: &str, source: &str) -> Result<Layout, TableError> {
        let mut layout = Layout::default();
        let mut common = Vec::new();
        for line in lines(
            name,
            source,
            &["table", "column", "also", "kind", "part", "disposition", "comment"],
        )? {
            let (number, cells) = line;
            let [table, column, also, kind, part, disposition, comment] = cells;
            let fault = |reason: String| TableError { table: name.into(), line: number, reason };
            let kind = Kind::parse(&kind)
                .ok_or_else(|| fault(format!("the kind \"{kind}\" is unknown")))?;
            let disposition = match disposition.as_str() {
                "mapped" => Disposition::Mapped,
                "carried" => Disposition::Carried,
                "ignored" => Disposition::Ignored,
                other => return Err(fault(format!("the disposition \"{other}\" is unknown"))),
            };
            if disposition != Disposition::Mapped && comment.is_empty() {
                return Err(fault(format!("{table}.{column} is {disposition:?} without a reason")));
            }
            let column = Column { name: column, kind, disposition, comment };
            if table == "*" {
                common.push((column, also));
            } else {
                layout.table_mut(&table).add(column, &also, &part).map_err(fault)?;
            }
        }
        for table in &mut layout.tables {
            for (column, also) in &common {
                if table.position(&column.name).is_none() {
                    let fault = |reason| TableError { table: name.into(), line: 0, reason };
                    table.add(column.clone(), also, "").map_err(fault)?;
                }
            }
        }
        Ok(layout)
    }

    fn table_mut(&mut self, name: &str) -> &mut Table {
        let index = match self.tables.iter().position(|table| &*table.name == name) {
            Some(index) => index,
            None => {
                self.tables.push(Table {
                    name: name.into(),
                    columns: Vec::new(),
                    owner: None,
                    key: Vec::new(),
                    names: HashMap::new(),
                    exact: HashMap::new(),
                });
                self.tables.len() - 1
            }
        };
        &mut self.tables[index]
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| &*table.name == name)
    }

    /// All tables in the order of the layout.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The table that a file holds: the one its name speaks of, else the one whose columns fit the
    /// header best. `None` when the header lacks a key column, or when less than half of it is known.
    pub fn recognise(&self, file: &str, header: &[String]) -> Option<&Table> {
        let known =
            |table: &Table| header.iter().filter(|name| table.position(name).is_some()).count();
        let fits = |table: &&Table| {
            let places: HashSet<usize> =
                header.iter().filter_map(|name| table.position(name)).collect();
            let keys = table.owner.iter().chain(&table.key).all(|index| places.contains(index));
            keys && known(table) * 2 >= header.len()
        };
        let named = self.tables.iter().filter(|table| file.contains(&*table.name));
        match named.max_by_key(|table| table.name.len()) {
            Some(table) => Some(table).filter(fits),
            None => self.tables.iter().filter(fits).rev().max_by_key(|table| known(table)),
        }
    }
}

impl Table {
    fn add(&mut self, column: Column, also: &str, part: &str) -> Result<(), String> {
        let index = self.columns.len();
        for name in std::iter::once(column.name.as_str()).chain(also.split_whitespace()) {
            let name = name.to_ascii_lowercase();
            if self.names.insert(name, index).is_some_and(|other| other != index) {
                return Err(format!("{}.{} stands twice", self.name, column.name));
            }
        }
        match part {
            "" => {}
            "owner" => self.owner = Some(index),
            "key" => self.key.push(index),
            other => return Err(format!("the part \"{other}\" is unknown")),
        }
        self.exact.insert(column.name.clone(), index);
        self.columns.push(column);
        Ok(())
    }
}

impl Kind {
    fn parse(name: &str) -> Option<Kind> {
        Some(match name {
            "guid" => Kind::Guid,
            "date" => Kind::Date,
            "time" => Kind::Time,
            "date-time" => Kind::DateTime,
            "boolean" => Kind::Boolean,
            "decimal" => Kind::Decimal,
            "integer" => Kind::Integer,
            "code" => Kind::Code,
            "snomed-concept" => Kind::SnomedConcept,
            "snomed-description" => Kind::SnomedDescription,
            "nhs-number" => Kind::NhsNumber,
            "text" => Kind::Text,
            _ => return None,
        })
    }

    /// Reads the text of a cell that is not empty. Dates, times and GUIDs come out in FHIR's
    /// spelling, numbers with the digits they came with, text tidied. An NHS number comes out as it
    /// is, valid or not, because its check digit decides under which system it goes.
    pub fn read(self, raw: &str) -> Cell {
        let raw = raw.trim();
        let good = |value: Json| Cell { value: Some(value), fault: None };
        let bad = |fault| Cell { value: None, fault: Some(fault) };
        let but = |value: Json, fault| Cell { value: Some(value), fault: Some(fault) };
        match self {
            _ if raw.is_empty() => Cell { value: None, fault: None },
            Kind::Guid => identity::guid(raw).map_or(bad(BAD_GUID), |guid| good(guid.into())),
            Kind::Date => match (local_time::date(raw), local_time::serial_date(raw)) {
                (Some(_), _) => good(raw.into()),
                (None, Some(date)) => but(date.to_string().into(), SERIAL),
                _ => bad(BAD_TIME),
            },
            Kind::Time => match (local_time::time(raw), local_time::serial_time(raw)) {
                (Some(_), _) => good(raw.into()),
                (None, Some(time)) => but(time.strftime("%H:%M:%S").to_string().into(), SERIAL),
                _ => bad(BAD_TIME),
            },
            Kind::DateTime => match raw.split_once([' ', 'T']) {
                Some((date, time))
                    if local_time::date(date).is_some() && local_time::time(time).is_some() =>
                {
                    good(format!("{date}T{time}").into())
                }
                _ => bad(BAD_TIME),
            },
            Kind::Boolean if raw.eq_ignore_ascii_case("true") => good(true.into()),
            Kind::Boolean if raw.eq_ignore_ascii_case("false") => good(false.into()),
            Kind::Boolean => bad(BAD_BOOLEAN),
            Kind::Decimal | Kind::Integer => number(raw).map_or(bad(BAD_NUMBER), good),
            Kind::SnomedConcept if !identity::is_snomed_concept(raw) => bad(BAD_SNOMED),
            Kind::SnomedDescription if !identity::is_snomed_description(raw) => bad(BAD_SNOMED),
            Kind::NhsNumber if identity::nhs_number(raw).is_none() => {
                but(raw.into(), BAD_NHS_NUMBER)
            }
            Kind::NhsNumber | Kind::Code | Kind::SnomedConcept | Kind::SnomedDescription => {
                good(raw.into())
            }
            Kind::Text => good(text::tidy(raw).into()),
        }
    }
}

const BAD_GUID: Fault = Fault {
    code: "BPA-ID-002",
    severity: Severity::Error,
    text: "This is no GUID, so what it points at cannot be found.",
};
const BAD_TIME: Fault = Fault {
    code: "BPA-TIME-001",
    severity: Severity::Warning,
    text: "This date or time cannot be read and was left out.",
};
const SERIAL: Fault = Fault {
    code: "BPA-TIME-001",
    severity: Severity::Warning,
    text: "This date or time is a spreadsheet's serial number and was read as one; please check it.",
};
const BAD_SNOMED: Fault = Fault {
    code: "BPA-CODE-002",
    severity: Severity::Warning,
    text: "This SNOMED CT identifier fails its check digit or partition; the text was kept without it.",
};
const BAD_NHS_NUMBER: Fault = Fault {
    code: "BPA-ID-001",
    severity: Severity::Error,
    text: "This NHS number fails its check digit; it was kept as unverified and nobody is matched by it.",
};
const BAD_BOOLEAN: Fault = Fault {
    code: "BPA-CODE-001",
    severity: Severity::Warning,
    text: "This is neither TRUE nor FALSE and was left out.",
};
const BAD_NUMBER: Fault = Fault {
    code: "BPA-CODE-001",
    severity: Severity::Warning,
    text: "This is no number and was left out.",
};

impl Fault {
    /// The fault as an issue.
    pub fn issue(self) -> Issue {
        Issue::error(IssueType::Value, self.text).severity(self.severity).detail(self.code)
    }
}

/// A decimal with its digits as they came, if JSON can write it so.
fn number(raw: &str) -> Option<Json> {
    let raw = raw.strip_prefix('+').unwrap_or(raw);
    let (sign, digits) = raw.strip_prefix('-').map_or(("", raw), |digits| ("-", digits));
    let digits = match digits.strip_prefix('.') {
        Some(fraction) => format!("0.{fraction}"),
        None => digits.to_string(),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || whole.len() > 18
        || fraction.len() > 18
        || !plain(whole)
        || !plain(fraction)
    {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(Json::Number(format!("{sign}{whole}{point}{fraction}").into()))
}

/// The lines of one of our own CSV tables as `N` cells each, with their line numbers; the header
/// must be exactly `header`.
///
/// # Errors
/// Another header, a line with another number of cells, or broken quoting.
pub fn lines<const N: usize>(
    name: &str,
    source: &str,
    header: &[&str; N],
) -> Result<Vec<(u64, [String; N])>, TableError> {
    let fault = |line: u64, reason: String| TableError { table: name.into(), line, reason };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(source.as_bytes());
    let mut found = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| fault(index as u64 + 1, error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells: Vec<String> = record.iter().map(str::to_string).collect();
        let cells: [String; N] = cells
            .try_into()
            .map_err(|_| fault(line, format!("the line does not have {N} cells")))?;
        if index > 0 {
            found.push((line, cells));
        } else if cells != *header {
            return Err(fault(line, format!("the header is not {}", header.join(","))));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
