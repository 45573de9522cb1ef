//! Import of an EMIS extract: every row is landed first, then the records that the rows change are
//! mapped and put, a few hundred resources a commit.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{IsTerminal, Write};

use lumbar_fhir::datetime::instant;
use lumbar_fhir::{Issue, IssueType, Json, Severity};
use lumbar_store::LandedRow;
use lumbar_translate::emis::{FileName, Item, Reader, count_carried, mapping};
use lumbar_translate::mapping::{Entry, Find, Mapping, Settings};
use lumbar_translate::record::{Need, Row, RowKey, RowSet};
use lumbar_translate::report::{Outcome, Report};

use super::landed::{Lookup, to_land};
use super::{Imported, Input};
use crate::app::App;
use crate::config::{ID_BASE, zone};
use crate::facade::Error;
use crate::security::Caller;

/// Whose rows these are in the landing. GUIDs carry the organisation.
const SOURCE: &str = "emis";
/// Rows that are landed, and roots that are mapped, at once.
const BATCH: usize = 500;
/// Resources of one commit.
const COMMIT: usize = 250;
/// Rows that are kept in memory for joins before they are looked up anew.
const MOST_ROWS: usize = 100_000;
/// Earlier states of a row that are looked at.
const EARLIER: usize = 8;
/// Rounds of looking up what a record is joined from.
const ROUNDS: usize = 12;

/// Imports the files of an extract, in the order of their extract times and numbers.
///
/// # Errors
/// A sentence: a file cannot be read, or the store cannot be written. What was landed stays, and
/// the same import again goes on from there.
pub async fn import(app: &App, inputs: &[Input]) -> Result<Imported, String> {
    let mapping = mapping().map_err(|error| format!("the EMIS mapping is broken: {error}"))?;
    let mut files: Vec<(FileName, &Input)> =
        inputs.iter().map(|input| (FileName::parse(&input.name()), input)).collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let import = Import {
        app,
        mapping: &mapping,
        lookup: Lookup { landing: &app.landing, source: SOURCE },
        report: Report::new("emis"),
        rows: RowSet::new(),
        done: HashSet::new(),
        others: HashMap::new(),
        used: HashSet::new(),
        changed: HashSet::new(),
        written: 0,
        all_changed: false,
        progress: Progress::new(),
    };
    import.run(&files).await
}

struct Import<'a> {
    app: &'a App,
    mapping: &'a Mapping,
    lookup: Lookup<'a>,
    report: Report,
    /// Rows for joins.
    rows: RowSet,
    /// Roots that were mapped in this run, by hash.
    done: HashSet<u64>,
    /// What became of roots that were not mapped, by hash.
    others: HashMap<u64, Outcome>,
    /// Rows that took part in a mapped record, by hash.
    used: HashSet<u64>,
    /// Rows that this run landed anew or changed, by hash.
    changed: HashSet<u64>,
    written: u64,
    /// An earlier import was cut off, so any row may not have been mapped.
    all_changed: bool,
    progress: Progress,
}

impl Import<'_> {
    async fn run(mut self, files: &[(FileName, &Input)]) -> Result<Imported, String> {
        self.all_changed = self.begin().await.map_err(told)?;
        // First all rows, so that joins find what stands in a later file.
        for (name, input) in files {
            self.land(name, input).await?;
        }
        for (name, input) in files {
            self.map(name, input).await?;
        }
        self.finish().await.map_err(told)?;
        self.progress.end();
        let fatal = self.report.issues().iter().any(|issue| issue.severity == Severity::Fatal);
        Ok(Imported { report: self.report, written: self.written, fatal })
    }

    async fn land(&mut self, name: &FileName, input: &Input) -> Result<(), String> {
        let reader = match Reader::open(&self.mapping.layout, &name.name, input.open()?) {
            Ok(reader) => reader,
            Err(issue) => {
                self.report.issue(*issue);
                return Ok(());
            }
        };
        let table = reader.table();
        for issue in reader.header_issues() {
            self.report.issue(issue.clone());
        }
        let mut batch = Vec::with_capacity(BATCH);
        for item in reader {
            self.report.came_in(&table.name);
            match item {
                Item::Row(row, issues) => {
                    issues.into_iter().for_each(|issue| self.report.issue(issue));
                    count_carried(&mut self.report, table, &row);
                    batch.push(*row);
                    if batch.len() == BATCH {
                        self.land_batch(std::mem::take(&mut batch)).await.map_err(told)?;
                    }
                }
                Item::Refused(issue) | Item::Broken(issue) => {
                    self.report.became(&table.name, &Outcome::Refused);
                    self.report.issue(issue);
                }
            }
        }
        self.land_batch(batch).await.map_err(told)
    }

    async fn land_batch(&mut self, batch: Vec<Row>) -> Result<(), Error> {
        let rows = newest(batch);
        let keys: Vec<RowKey> = rows.iter().map(|row| row.key.clone()).collect();
        let landed = self.lookup.rows(&keys).await?;
        let landed: HashMap<&RowKey, &Row> = landed.iter().map(|row| (&row.key, row)).collect();
        let mut fresh: Vec<LandedRow> = Vec::new();
        for row in &rows {
            if landed.get(&row.key).is_some_and(|old| is_older(row, old)) {
                continue;
            }
            fresh.extend(to_land(SOURCE, row, &self.mapping.links(row)));
        }
        let count = rows.len();
        for key in self.app.landing.put(fresh, self.app.facade.now()).await? {
            self.changed.insert(hash(&key.table, &key.key));
        }
        self.progress.add("landed", count);
        Ok(())
    }

    async fn map(&mut self, name: &FileName, input: &Input) -> Result<(), String> {
        let Ok(reader) = Reader::open(&self.mapping.layout, &name.name, input.open()?) else {
            return Ok(());
        };
        let mut batch = Vec::with_capacity(BATCH);
        for item in reader {
            if let Item::Row(row, _) = item {
                batch.push(*row);
                if batch.len() == BATCH {
                    self.map_batch(std::mem::take(&mut batch)).await.map_err(told)?;
                }
            }
        }
        self.map_batch(batch).await.map_err(told)
    }

    /// Maps the records that a file's rows change, and counts what became of the rows.
    async fn map_batch(&mut self, batch: Vec<Row>) -> Result<(), Error> {
        if self.rows.len() > MOST_ROWS {
            self.rows = RowSet::new();
        }
        let count = batch.len();
        let keys: Vec<RowKey> = batch.iter().map(|row| row.key.clone()).collect();
        self.need(keys.into_iter().map(Need::Row).collect()).await?;
        let mut roots = Vec::new();
        for row in &batch {
            let all =
                self.all_changed || self.changed.contains(&hash(&row.key.table, &row.key.key));
            for find in self.mapping.affected(row) {
                if all || matches!(find.need, Need::Row(_)) {
                    roots.extend(self.find(find).await?);
                }
            }
        }
        let mut fresh = Vec::new();
        for root in roots {
            if self.done.insert(hash(&root.table, &root.key)) {
                fresh.push(root);
            }
        }
        let mut again = Vec::new();
        for roots in fresh.chunks(BATCH) {
            again.extend(self.map_roots(roots).await?);
        }
        again.sort();
        again.dedup();
        for roots in again.chunks(BATCH) {
            self.map_roots(roots).await?;
        }
        for row in &batch {
            let table = row.key.table.clone();
            let landed = self.rows.get(&row.key);
            if landed.is_some_and(|landed| landed.file != row.file || landed.row != row.row) {
                // The same row may have come before from another file of the same content.
                let same = landed.is_some_and(|landed| landed.cells == row.cells);
                if !same {
                    let rule = "replaced-by-another-row-of-its-key".to_owned();
                    self.report.became(&table, &Outcome::Ignored(rule));
                    continue;
                }
            }
            let outcome = match self.others.get(&hash(&table, &row.key.key)) {
                Some(outcome) => outcome.clone(),
                None if self.mapping.is_root(&table) => Outcome::Mapped,
                None if self.used.contains(&hash(&table, &row.key.key)) => Outcome::Mapped,
                None => {
                    if let Some(issue) = self.mapping.orphan(row, &self.rows) {
                        self.report.issue(issue);
                    }
                    Outcome::Carried
                }
            };
            self.report.became(&table, &outcome);
        }
        self.progress.add("mapped", count);
        Ok(())
    }

    /// Keys of the roots that a find leads to.
    async fn find(&mut self, find: Find) -> Result<Vec<RowKey>, Error> {
        let mut keys = match &find.need {
            Need::Row(key) => vec![key.clone()],
            Need::Linked(link) => self.lookup.linked(link).await?,
        };
        for (table, column) in &find.then {
            let mut next = Vec::new();
            for key in &keys {
                let link = lumbar_translate::record::Link {
                    table: table.clone(),
                    column: column.clone(),
                    key: key.key.clone(),
                };
                next.extend(self.lookup.linked(&link).await?);
            }
            keys = next;
        }
        Ok(keys)
    }

    async fn need(&mut self, mut needs: Vec<Need>) -> Result<(), Error> {
        needs.retain(|need| !self.rows.knows(need));
        if needs.is_empty() {
            return Ok(());
        }
        self.lookup.answer(self.mapping, needs, &mut self.rows).await
    }

    /// Maps roots and puts what they give. Returns roots that must be mapped once more because of it.
    async fn map_roots(&mut self, roots: &[RowKey]) -> Result<Vec<RowKey>, Error> {
        self.need(roots.iter().cloned().map(Need::Row).collect()).await?;
        let rows: Vec<Row> = roots.iter().filter_map(|key| self.rows.get(key)).cloned().collect();
        for _ in 0..ROUNDS {
            let mut needs: Vec<Need> =
                rows.iter().flat_map(|row| self.mapping.needs(row, &self.rows)).collect();
            needs.sort();
            needs.dedup();
            if needs.is_empty() {
                break;
            }
            self.need(needs).await?;
        }
        let keys = rows.iter().flat_map(|row| self.mapping.earlier_keys(&row.key)).collect();
        for key in self.lookup.changed(keys).await? {
            for earlier in self.lookup.earlier(&key, EARLIER).await? {
                self.rows.insert_earlier(earlier);
            }
        }
        let definitions = self.app.facade.definitions();
        let mut settings = Settings {
            base: ID_BASE.to_owned(),
            source: String::new(),
            zone: zone(),
            now: instant(self.app.facade.now()),
            software: concat!("Lumbar ", env!("CARGO_PKG_VERSION")).to_owned(),
            provenance: true,
            wait: true,
            definitions: &definitions,
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut withdrawn: Vec<Row> = Vec::new();
        for row in &rows {
            settings.source = batch_name(&row.extract_time);
            // Without a time in the file's name there is none that would be the same next time.
            settings.provenance = !row.extract_time.is_empty();
            let mapped = self.mapping.map(row, &self.rows, &settings);
            mapped.issues.into_iter().for_each(|issue| self.report.issue(issue));
            if mapped.outcome == Outcome::Mapped {
                self.used.extend(mapped.used.iter().map(|key| hash(&key.table, &key.key)));
            }
            if mapped.outcome != Outcome::Mapped {
                self.others.insert(hash(&row.key.table, &row.key.key), mapped.outcome);
            }
            if mapped.entries.iter().any(|entry| entry.withdrawn) {
                withdrawn.push(row.clone());
            }
            entries.extend(mapped.entries);
            if entries.len() >= COMMIT {
                self.put(std::mem::take(&mut entries)).await?;
            }
        }
        self.put(entries).await?;
        // What became another type of resource is referred to in another way.
        let mut again = Vec::new();
        for row in &withdrawn {
            for find in self.mapping.affected(row) {
                again.extend(self.find(find).await?);
            }
        }
        Ok(again)
    }

    /// Stores entries; when they cannot be stored together, each alone, so that one that is not
    /// valid keeps no other out.
    async fn put(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        let mut resources: Vec<Json> = Vec::with_capacity(entries.len());
        for entry in entries {
            let kind = entry.resource.str_at(&["resourceType"]).unwrap_or_default();
            if entry.withdrawn {
                let id = entry.resource.str_at(&["id"]).unwrap_or_default();
                if self.app.facade.get(&Caller::System, kind, id).await?.is_none() {
                    continue;
                }
            }
            self.report.made(kind);
            resources.push(entry.resource);
        }
        if resources.is_empty() {
            return Ok(());
        }
        match self.app.facade.put(&Caller::System, &resources, &[]).await {
            Ok(written) => self.written += written,
            Err(Error::Invalid(_) | Error::Unparseable(_)) => {
                for resource in resources {
                    match self.app.facade.put(&Caller::System, &[resource], &[]).await {
                        Ok(written) => self.written += written,
                        Err(Error::Invalid(issues) | Error::Unparseable(issues)) => {
                            issues.into_iter().for_each(|issue| self.report.issue(issue));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Notes that an import runs. Whether the one before was cut off.
    async fn begin(&self) -> Result<bool, Error> {
        let last = self.app.landing.get(SOURCE, "import", &["state"]).await?;
        let cut_off = last.first().is_some_and(|row| row.body.as_ref() == b"running");
        self.note("running").await?;
        Ok(cut_off)
    }

    async fn finish(&self) -> Result<(), Error> {
        self.note("finished").await
    }

    async fn note(&self, state: &str) -> Result<(), Error> {
        let row = LandedRow {
            key: lumbar_store::RowKey {
                source: SOURCE.to_owned(),
                table: "import".to_owned(),
                key: "state".to_owned(),
            },
            file: String::new(),
            line: 0,
            digest: state.as_bytes().into(),
            body: state.as_bytes().into(),
        };
        self.app.landing.put(vec![row], self.app.facade.now()).await?;
        Ok(())
    }
}

/// The rows without those that a later one of the same file and key replaces.
fn newest(batch: Vec<Row>) -> Vec<Row> {
    let mut places: HashMap<RowKey, usize> = HashMap::new();
    let mut rows: Vec<Row> = Vec::with_capacity(batch.len());
    for row in batch {
        match places.entry(row.key.clone()) {
            MapEntry::Occupied(place) => {
                let old = &mut rows[*place.get()];
                if old.processing_id <= row.processing_id {
                    *old = row;
                }
            }
            MapEntry::Vacant(place) => {
                place.insert(rows.len());
                rows.push(row);
            }
        }
    }
    rows
}

/// Whether `row` was written before `old`, which has landed already.
fn is_older(row: &Row, old: &Row) -> bool {
    let order = |row: &Row| (row.extract_time.clone(), row.file.clone());
    let same_file = order(row) == order(old);
    row.extract_time < old.extract_time || (same_file && row.processing_id < old.processing_id)
}

/// Name of the batch in `meta.source`: the same for every run over the same files.
fn batch_name(extract_time: &str) -> String {
    if extract_time.is_empty() { "emis".to_owned() } else { format!("emis-{extract_time}") }
}

fn hash(table: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (table, key).hash(&mut hasher);
    hasher.finish()
}

fn told(error: Error) -> String {
    let why = error.issues().first().map_or(String::new(), |issue: &Issue| issue.text.clone());
    match error.issues().first().map(|issue| issue.code) {
        Some(IssueType::Exception) => {
            "the import stopped at a fault of Lumbar; the log says which, and the same import again goes on".to_owned()
        }
        _ => format!("the import stopped: {why} Run it again to go on."),
    }
}

/// How far it is, on a terminal.
struct Progress {
    shown: bool,
    landed: usize,
    mapped: usize,
}

impl Progress {
    fn new() -> Progress {
        Progress { shown: std::io::stderr().is_terminal(), landed: 0, mapped: 0 }
    }

    fn add(&mut self, what: &str, count: usize) {
        match what {
            "landed" => self.landed += count,
            _ => self.mapped += count,
        }
        if self.shown && count > 0 {
            let percent = self.mapped * 100 / self.landed.max(1);
            eprint!("\r{} rows landed, {} mapped ({percent} %) ", self.landed, self.mapped);
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if self.shown {
            eprintln!();
        }
    }
}
