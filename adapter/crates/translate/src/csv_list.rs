//! Our appointment list as CSV, out and in: <https://www.rfc-editor.org/rfc/rfc4180>.
//!
//! UTF-8, comma, CRLF, one row for one booking of one person, each row the whole state of that
//! booking. Rows with the same `group_id` and `start` are one class. [`write()`] and [`read()`] are
//! exact inverses; so are [`resources`] and [`booking`] for every row that [`read()`] takes without an
//! issue, blanks between given names aside. Other people's lists, with their own headers and date forms, are not read here, and
//! nobody is matched: a patient without an NHS number is the work list's business.

mod fhir;
mod grammar;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use lumbar_fhir::datetime::{DateTime, Precision};
use lumbar_fhir::{Issue, IssueType, Locator, Severity};

use crate::{identity, local_time};

pub use fhir::{booking, needs, resources};

/// The header, in order.
pub const HEADER: [&str; 22] = [
    "appointment_id",
    "status",
    "start",
    "end",
    "timezone",
    "patient_id",
    "nhs_number",
    "family_name",
    "given_name",
    "date_of_birth",
    "phone",
    "email",
    "clinician_id",
    "clinician_name",
    "location",
    "service",
    "group_id",
    "session_no",
    "sessions_total",
    "referral_id",
    "cancel_reason",
    "notes",
];

/// Columns without which a row says nothing.
const REQUIRED: [usize; 3] = [0, 1, 2];

/// The status words, which are those of Appointment.
const STATUSES: [&str; 10] = [
    "proposed",
    "pending",
    "booked",
    "arrived",
    "fulfilled",
    "cancelled",
    "noshow",
    "entered-in-error",
    "checked-in",
    "waitlist",
];

/// One row: a cell for each column of [`HEADER`], empty when it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booking {
    cells: [String; 22],
}

/// How lists are written and read.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Our FHIR base, without a slash at the end; it begins the systems of the list's own ids.
    pub base: &'a str,
    /// Name of the list's other side, for example its ODS code; ids are unique within it.
    pub source: &'a str,
    /// IANA name of the zone of local times without a zone of their own.
    pub zone: &'a str,
    /// Whether the list is opened in a spreadsheet: cells that it would take for a formula get an
    /// apostrophe on the way out and lose it on the way in.
    pub spreadsheet: bool,
}

/// Bookings that an earlier list had and the present one does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vanished {
    /// Their appointment ids.
    pub ids: Vec<String>,
    /// Whether so many are gone (over a fifth) that a person must confirm before any is cancelled.
    pub needs_confirmation: bool,
}

impl Booking {
    /// The cell of a column of [`HEADER`]; empty for any other name.
    pub fn get(&self, column: &str) -> &str {
        match HEADER.iter().position(|name| *name == column) {
            Some(index) => &self.cells[index],
            None => "",
        }
    }

    /// Sets the cell of a column of [`HEADER`]; does nothing for any other name.
    pub fn set(&mut self, column: &str, text: impl Into<String>) {
        if let Some(index) = HEADER.iter().position(|name| *name == column) {
            self.cells[index] = text.into();
        }
    }
}

/// Writes a list.
pub fn write(bookings: &[Booking], settings: &Settings<'_>) -> String {
    let mut out = String::new();
    grammar::write_row(&mut out, HEADER.iter().copied());
    for booking in bookings {
        let cells = booking.cells.iter().map(|cell| {
            if settings.spreadsheet && is_formula(cell) { format!("'{cell}") } else { cell.clone() }
        });
        grammar::write_row(&mut out, cells);
    }
    out
}

/// Whether a spreadsheet would calculate the cell, leading apostrophes aside: those are doubled by
/// the same rule, so that taking one away always gives the cell back.
fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Reads a list. Columns may stand in any order; a row that cannot be used is left out with an
/// error, and the others are read.
///
/// Fatal are a header without `appointment_id`, `status` and `start` (`BPA-FILE-001`), and bytes or
/// quotes that break the file (`BPA-FILE-002`): the rows before the break are returned, but the
/// list must not be taken as complete. Rows with errors: other length than the header, no id, an
/// unknown status, a start that cannot be read (`BPA-TIME-001`) or does not exist (`BPA-TIME-003`),
/// an id that stands twice with other content (`BPA-ID-002`).
pub fn read(file: &str, bytes: &[u8], settings: &Settings<'_>) -> (Vec<Booking>, Vec<Issue>) {
    let mut reader = Reader { file, settings, bookings: Vec::new(), issues: Vec::new() };
    reader.list(bytes);
    (reader.bookings, reader.issues)
}

struct Reader<'a> {
    file: &'a str,
    settings: &'a Settings<'a>,
    bookings: Vec<Booking>,
    issues: Vec<Issue>,
}

impl Reader<'_> {
    fn list(&mut self, bytes: &[u8]) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let row =
                    bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                let text = "The list is not UTF-8.";
                return self.broken(row as u64, text);
            }
        };
        let mut rows = grammar::rows(text);
        let Some(Ok(header)) = rows.next() else {
            return self.broken(0, "The list has no header that can be read.");
        };
        let Some(columns) = self.columns(&header) else { return };
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (row, cells) in (1..).zip(rows) {
            let cells = match cells {
                Ok(cells) => cells,
                Err(fault) => return self.broken(row, fault),
            };
            if cells.len() == 1 && cells[0].is_empty() {
                continue;
            }
            if cells.len() != header.len() {
                let text =
                    format!("The row has {} cells, the header {}.", cells.len(), header.len());
                self.error(row, "", IssueType::Structure, "BPA-FILE-002", &text);
                continue;
            }
            let Some(booking) = self.row(row, &columns, cells) else { continue };
            match seen.get(booking.get("appointment_id")) {
                Some(&index) if self.bookings.get(index) == Some(&booking) => {
                    let text = "The row stands twice; it is taken once.";
                    self.issue(
                        row,
                        "",
                        Severity::Information,
                        IssueType::Duplicate,
                        "BPA-DUP-001",
                        text,
                    );
                }
                Some(_) => {
                    let text = "The appointment id stands twice with different content.";
                    self.error(row, "appointment_id", IssueType::Duplicate, "BPA-ID-002", text);
                }
                None => {
                    seen.insert(booking.get("appointment_id").to_owned(), self.bookings.len());
                    self.bookings.push(booking);
                }
            }
        }
    }

    /// For each column of the file the column of [`HEADER`] that it is.
    fn columns(&mut self, header: &[String]) -> Option<Vec<Option<usize>>> {
        let known = |cell: &String| HEADER.iter().position(|name| *name == cell.trim());
        let columns: Vec<Option<usize>> = header.iter().map(known).collect();
        let is_there =
            |index: &usize| columns.iter().filter(|column| **column == Some(*index)).count();
        let repeated = (0..HEADER.len()).any(|index| is_there(&index) > 1);
        if repeated || !REQUIRED.iter().all(|index| is_there(index) == 1) {
            let text = "The header is not that of an appointment list.";
            self.issue(0, "", Severity::Fatal, IssueType::Structure, "BPA-FILE-001", text);
            return None;
        }
        for (cell, _) in header.iter().zip(&columns).filter(|(_, column)| column.is_none()) {
            let text = "The column is not known; its cells stay in the raw list.";
            self.issue(0, cell, Severity::Warning, IssueType::NotSupported, "BPA-FILE-003", text);
        }
        Some(columns)
    }

    fn row(&mut self, row: u64, columns: &[Option<usize>], cells: Vec<String>) -> Option<Booking> {
        let mut booking = Booking::default();
        for (column, mut cell) in columns.iter().zip(cells) {
            if self.settings.spreadsheet && cell.starts_with('\'') && is_formula(&cell) {
                cell.remove(0);
            }
            if let Some(index) = column {
                booking.cells[*index] = cell;
            }
        }
        if booking.get("appointment_id").is_empty() {
            let text = "The row has no appointment id.";
            self.error(row, "appointment_id", IssueType::Required, "BPA-ID-002", text);
            return None;
        }
        if !STATUSES.contains(&booking.get("status")) {
            let text = "The status is none of the words of an appointment's status.";
            self.error(row, "status", IssueType::CodeInvalid, "BPA-CODE-001", text);
            return None;
        }
        let zone = booking.get("timezone");
        if !zone.is_empty() && local_time::zone(zone).is_none() {
            let text = "The time zone is not known.";
            self.error(row, "timezone", IssueType::Value, "BPA-TIME-001", text);
            return None;
        }
        if !self.time(row, "start", &mut booking) {
            return None;
        }
        if !booking.get("end").is_empty() && !self.time(row, "end", &mut booking) {
            booking.set("end", "");
        }
        self.person(row, &booking);
        Some(booking)
    }

    /// Reads a time of the row and gives it seconds and, if it has neither zone nor offset, the
    /// list's zone. Whether it can be used.
    fn time(&mut self, row: u64, column: &'static str, booking: &mut Booking) -> bool {
        let text = booking.get(column).to_owned();
        let with_seconds = if text.len() == 16 { format!("{text}:00") } else { text.clone() };
        let moment = DateTime::parse(&text).or_else(|| DateTime::parse(&with_seconds));
        let Some(moment) = moment.filter(|moment| moment.precision >= Precision::Minute) else {
            let what = "The time cannot be read as YYYY-MM-DDTHH:MM.";
            let issue = Issue::error(IssueType::Value, what).detail("BPA-TIME-001").value(text);
            self.issues.push(issue.located(self.cell(row, column)));
            return false;
        };
        if moment.offset.is_some() {
            let fixed = if moment.precision == Precision::Minute {
                format!("{}:00{}", &text[..16], &text[16..])
            } else {
                text
            };
            booking.set(column, fixed);
            return true;
        }
        booking.set(column, with_seconds);
        if booking.get("timezone").is_empty() {
            booking.set("timezone", self.settings.zone);
            let what = "The time has no zone; the zone of the list is taken.";
            self.issue(row, column, Severity::Information, IssueType::Value, "BPA-TIME-002", what);
        }
        let zone = local_time::zone(booking.get("timezone"));
        let placed = zone.and_then(|zone| local_time::place(moment.start, &zone));
        match placed.and_then(|placed| placed.oddity) {
            Some(local_time::Oddity::Gap) => {
                let what = "The time does not exist: clocks go forward over it.";
                self.error(row, column, IssueType::Value, "BPA-TIME-003", what);
                false
            }
            Some(local_time::Oddity::Overlap) => {
                let what = "The time comes twice that night; the first one is taken.";
                self.issue(row, column, Severity::Warning, IssueType::Value, "BPA-TIME-002", what);
                true
            }
            None => true,
        }
    }

    fn person(&mut self, row: u64, booking: &Booking) {
        let number = booking.get("nhs_number");
        if !number.is_empty() && identity::nhs_number(number).is_none() {
            let what = "The NHS number fails its check; the person is not matched by it.";
            let issue = Issue::error(IssueType::Value, what).detail("BPA-ID-001").value(number);
            self.issues.push(issue.located(self.cell(row, "nhs_number")));
        }
        let birth = booking.get("date_of_birth");
        let is_date = |date: DateTime| date.precision <= Precision::Day;
        if !birth.is_empty() && !DateTime::parse(birth).is_some_and(is_date) {
            let what = "The date of birth cannot be read and is left out.";
            let issue = Issue::warning(IssueType::Value, what).detail("BPA-TIME-001").value(birth);
            self.issues.push(issue.located(self.cell(row, "date_of_birth")));
        }
        for column in ["session_no", "sessions_total"] {
            let text = booking.get(column);
            let is_number = text.parse::<u32>().is_ok() && !text.starts_with(['0', '+']);
            if !text.is_empty() && !is_number {
                let what = "The number of a session is a whole number from 1; it is left out.";
                self.issue(row, column, Severity::Warning, IssueType::Value, "BPA-CODE-001", what);
            }
        }
    }

    fn cell(&self, row: u64, column: &str) -> Locator {
        Locator::Cell { file: self.file.to_owned(), row, column: column.to_owned() }
    }

    fn broken(&mut self, row: u64, text: &str) {
        self.issue(row, "", Severity::Fatal, IssueType::Structure, "BPA-FILE-002", text);
    }

    fn error(&mut self, row: u64, column: &str, kind: IssueType, detail: &'static str, text: &str) {
        self.issue(row, column, Severity::Error, kind, detail, text);
    }

    fn issue(
        &mut self,
        row: u64,
        column: &str,
        severity: Severity,
        kind: IssueType,
        detail: &'static str,
        text: &str,
    ) {
        let issue = Issue::error(kind, text).severity(severity).detail(detail);
        self.issues.push(issue.located(self.cell(row, column)));
    }
}

/// Compares the ids of the last list with the present one, for a source whose lists are complete.
pub fn vanished(before: &[String], now: &[Booking]) -> Vanished {
    let ids: Vec<String> = before
        .iter()
        .filter(|id| !now.iter().any(|booking| booking.get("appointment_id") == id.as_str()))
        .cloned()
        .collect();
    let needs_confirmation = ids.len() * 5 > before.len();
    Vanished { ids, needs_confirmation }
}
