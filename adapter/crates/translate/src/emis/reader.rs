//! One file of an extract: <https://www.rfc-editor.org/rfc/rfc4180> as the supplier writes it.
//!
//! Rows come one at a time; what is kept of earlier ones is 16 bytes each, to find keys that come
//! twice. Columns are read by name, never by position. A row with the wrong number of cells is
//! refused, because nobody can say which cell is missing; broken quoting ends the file there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::Arc;

use csv::{ByteRecord, ReaderBuilder};
use encoding_rs::WINDOWS_1252;
use lumbar_fhir::{Issue, IssueType, Json, Locator, Object, Severity};

use super::quoting::Quoting;
use crate::record::{Layout, Row, RowKey, Table};

/// Reads the rows of one file.
pub struct Reader<'l, R: Read> {
    table: &'l Table,
    file: Arc<str>,
    extract_time: Arc<str>,
    csv: csv::Reader<Quoting<R>>,
    /// For every column its name and whether the layout knows it.
    columns: Vec<String>,
    processing_id: Option<usize>,
    seen: HashMap<u64, u64>,
    row: u64,
    pending: Option<ByteRecord>,
    issues: Vec<Issue>,
    ended: bool,
}

/// One step of reading.
#[derive(Debug)]
pub enum Item {
    /// A row, with what is wrong with its cells.
    Row(Box<Row>, Vec<Issue>),
    /// A row that could not be used.
    Refused(Issue),
    /// The rest of the file could not be read; nothing follows.
    Broken(Issue),
}

/// The parts of a file name `n_Domain_Table_yyyyMMddHHmmss_agreement.csv`, as far as it has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// When the supplier wrote the file; empty when the name does not say.
    pub extract_time: String,
    /// Number of the file within its extract.
    pub number: u64,
    /// The whole name, without folders.
    pub name: String,
}

impl FileName {
    /// Takes a name apart; the order of `FileName`s is the order in which files are applied.
    pub fn parse(path: &str) -> FileName {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let parts: Vec<&str> = name.split('_').collect();
        let time =
            |part: &&&str| part.len() == 14 && part.bytes().all(|byte| byte.is_ascii_digit());
        FileName {
            extract_time: parts.iter().find(time).map_or("", |part| *part).to_string(),
            number: parts.first().and_then(|part| part.parse().ok()).unwrap_or(0),
            name: name.to_string(),
        }
    }
}

impl<'l, R: Read> Reader<'l, R> {
    /// Opens a file by its header.
    ///
    /// # Errors
    /// `BPA-FILE-001` when the header is not that of a known table, `BPA-FILE-002` when it cannot
    /// be read at all.
    pub fn open(layout: &'l Layout, path: &str, input: R) -> Result<Reader<'l, R>, Box<Issue>> {
        let name = FileName::parse(path);
        let file: Arc<str> = name.name.as_str().into();
        let mut csv =
            ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Quoting::new(input));
        let mut header = ByteRecord::new();
        if let Err(error) = csv.read_byte_record(&mut header) {
            return Err(Box::new(broken(&file, 0, &error.to_string())));
        }
        let header: Vec<String> = header
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let text = String::from_utf8_lossy(cell);
                let text = if index == 0 { text.trim_start_matches('\u{feff}') } else { &text };
                text.trim().to_string()
            })
            .collect();
        let unknown = |text: &str| {
            let issue = Issue::error(IssueType::Structure, text).severity(Severity::Fatal);
            let locator = Locator::Cell { file: file.to_string(), row: 0, column: String::new() };
            Box::new(issue.detail("BPA-FILE-001").located(locator).value(header.join(",")))
        };
        let Some(table) = layout.recognise(&name.name, &header) else {
            return Err(unknown(
                "The header is not that of a known table, or a key column is missing; the file was kept and not used.",
            ));
        };
        let mut columns: Vec<String> = Vec::with_capacity(header.len());
        let mut issues = Vec::new();
        for cell in &header {
            let known = table.position(cell).and_then(|index| table.columns.get(index));
            let column = known.map_or(cell.as_str(), |column| column.name.as_str());
            if columns.iter().any(|other| other == column) {
                return Err(unknown(
                    "A column stands twice in the header; the file was kept and not used.",
                ));
            }
            if known.is_none() {
                let locator =
                    Locator::Cell { file: file.to_string(), row: 0, column: cell.clone() };
                let text = "This column is unknown; its cells are kept only in the raw rows.";
                issues.push(
                    Issue::warning(IssueType::Structure, text)
                        .detail("BPA-FILE-003")
                        .located(locator),
                );
            }
            columns.push(column.to_string());
        }
        let processing_id = columns.iter().position(|column| column == "ProcessingId");
        Ok(Reader {
            table,
            file,
            extract_time: name.extract_time.as_str().into(),
            csv,
            columns,
            processing_id,
            seen: HashMap::new(),
            row: 0,
            pending: None,
            issues,
            ended: false,
        })
    }

    /// The table that the file holds.
    pub fn table(&self) -> &'l Table {
        self.table
    }

    /// What is odd about the header.
    pub fn header_issues(&self) -> &[Issue] {
        &self.issues
    }

    /// The columns that the layout does not know.
    pub fn unknown_columns(&self) -> impl Iterator<Item = &str> {
        let unknown = |column: &&String| self.table.column(column).is_none();
        self.columns.iter().filter(unknown).map(String::as_str)
    }

    fn record(&mut self) -> Result<Option<ByteRecord>, String> {
        if let Some(record) = self.pending.take() {
            return Ok(Some(record));
        }
        let mut record = ByteRecord::new();
        match self.csv.read_byte_record(&mut record) {
            Err(error) => Err(error.to_string()),
            Ok(false) => Ok(None),
            Ok(true) => match self.csv.get_ref().fault() {
                Some(fault) if fault.at < self.csv.position().byte() => {
                    Err(fault.reason.to_string())
                }
                _ => Ok(Some(record)),
            },
        }
    }

    fn read(&mut self) -> Option<Item> {
        if self.ended {
            return None;
        }
        let record = match self.record() {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(reason) => {
                self.ended = true;
                return Some(Item::Broken(broken(&self.file, self.row + 1, &reason)));
            }
        };
        self.row += 1;
        if record.len() != self.columns.len() {
            let (has, wants) = (record.len(), self.columns.len());
            let reason = format!("the row has {has} cells where the header has {wants}");
            return Some(match self.record() {
                Ok(None) if has < wants => {
                    self.ended = true;
                    Item::Broken(broken(
                        &self.file,
                        self.row,
                        &format!("{reason}, and it is the last"),
                    ))
                }
                Ok(next) => {
                    self.pending = next;
                    let text = "This row has more or fewer cells than the header, so nobody can say which is which; it was not used.";
                    let issue = Issue::error(IssueType::Structure, text).detail("BPA-FILE-002");
                    Item::Refused(issue.located(self.locator("")))
                }
                Err(_) => {
                    self.ended = true;
                    Item::Broken(broken(&self.file, self.row, &reason))
                }
            });
        }
        let mut issues = Vec::new();
        let mut cells = Object::new();
        let mut content = DefaultHasher::new();
        for (index, (column, bytes)) in self.columns.iter().zip(record.iter()).enumerate() {
            if bytes.is_empty() {
                continue;
            }
            let text = match std::str::from_utf8(bytes) {
                Ok(text) => Json::from(text),
                Err(_) => {
                    let text = "This cell is not UTF-8; it was read as Windows-1252.";
                    let issue = Issue::warning(IssueType::Value, text).detail("BPA-ENC-001");
                    issues.push(issue.located(self.locator(column)));
                    Json::from(&*WINDOWS_1252.decode_without_bom_handling(bytes).0)
                }
            };
            if Some(index) != self.processing_id {
                (index, bytes).hash(&mut content);
            }
            cells.set(column, text);
        }
        let key = match self.table.key_of(&cells) {
            Ok(key) => key,
            Err(column) => {
                let text =
                    "The key of this row is missing or is no GUID, so the row cannot be used.";
                let issue = Issue::error(IssueType::Value, text).detail("BPA-ID-002");
                let value = cells.get(column).and_then(Json::as_str).unwrap_or_default();
                return Some(Item::Refused(issue.located(self.locator(column)).value(value)));
            }
        };
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let content = content.finish();
        if self.seen.insert(hasher.finish(), content).is_some_and(|other| other != content) {
            let text = "The key of this row stands twice in the file with different content; the row with the higher ProcessingId counts.";
            let issue = Issue::error(IssueType::Duplicate, text).detail("BPA-ID-002");
            issues.push(issue.located(self.locator("")).value(key.as_str()));
        }
        let processing_id = cells.get("ProcessingId").and_then(Json::as_str);
        let row = Row {
            key: RowKey { table: self.table.name.clone(), key },
            file: self.file.clone(),
            row: self.row,
            processing_id: processing_id.and_then(|text| text.trim().parse().ok()),
            extract_time: self.extract_time.clone(),
            cells,
        };
        issues.extend(self.table.faults(&row));
        Some(Item::Row(Box::new(row), issues))
    }

    fn locator(&self, column: &str) -> Locator {
        Locator::Cell { file: self.file.to_string(), row: self.row, column: column.to_string() }
    }
}

impl<R: Read> Iterator for Reader<'_, R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.read()
    }
}

fn broken(file: &str, row: u64, reason: &str) -> Issue {
    let text = format!(
        "The file is truncated or its quoting is broken at row {row} ({reason}); the rows before it were kept."
    );
    let locator = Locator::Cell { file: file.to_string(), row, column: String::new() };
    Issue::error(IssueType::Structure, text)
        .severity(Severity::Fatal)
        .detail("BPA-FILE-002")
        .located(locator)
}
