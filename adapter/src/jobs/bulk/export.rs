//! Writes an export, type by type, in the order of the rows:
//! <https://hl7.org/fhir/uv/bulkdata/STU2/export.html>.

use lumbar_store::BulkJob;

use super::{Fault, Files, Part};
use crate::app::App;
use crate::facade::bulk::export::Source;
use crate::facade::bulk::{File, Progress};
use crate::facade::{Error, Facade};

/// Lines of a file from which on a type gets another one.
const FILE_LINES: u64 = 100_000;
/// Bytes that a part should hold in memory.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Resources of the first part, whose sizes are not known.
const FIRST: usize = 50;
/// Types that are found empty in one part.
const EMPTY_TYPES: usize = 40;

/// An export that is being done.
pub(super) struct Exporting {
    source: Source,
    /// Resources of the next part.
    count: usize,
}

impl Exporting {
    pub(super) async fn open(app: &App, job: &BulkJob) -> Result<Exporting, Fault> {
        let (_, seq) = job.moment.ok_or(Error::Internal)?;
        let source = app.facade.export_source(&job.request, seq).await?;
        Ok(Exporting { source, count: FIRST })
    }

    pub(super) async fn part(
        &mut self,
        app: &App,
        files: Files<'_>,
        progress: &mut Progress,
    ) -> Result<Part, Fault> {
        for _ in 0..EMPTY_TYPES {
            let position = &progress.position;
            let (after, deletions) = (position.after, position.deletions);
            let Some(of) = self.source.types.iter().find(|of| **of >= position.of).cloned() else {
                if !deletions {
                    progress.position.deletions = true;
                    progress.position.of.clear();
                    continue;
                }
                self.end(files, progress).await?;
                return Ok(Part::End);
            };
            let count = self.count.clamp(1, app.settings.bulk.chunk.max(1));
            let part = if deletions {
                app.facade.export_deletions(&self.source, &of, after, count).await?
            } else {
                app.facade.export_part(&self.source, &of, after, count).await?
            };
            let (list, kind, name) = if deletions {
                (&mut progress.deleted, "Bundle", "deleted")
            } else {
                (&mut progress.output, of.as_str(), of.as_str())
            };
            if !part.lines.is_empty() {
                let bytes: usize = part.lines.iter().map(String::len).sum();
                self.count = PART_BYTES * part.lines.len() / bytes.max(1);
                files.append(file_for(list, kind, name), &part.lines).await?;
            }
            if part.next.is_none() {
                self.count = self.count.min(FIRST);
            }
            progress.position.after = part.next.unwrap_or_default();
            progress.position.of = match part.next {
                Some(_) => of.clone(),
                // The least text after it.
                None => format!("{of}\u{0}"),
            };
            progress.told = self.told(progress, &of);
            if !part.lines.is_empty() || part.next.is_some() {
                return Ok(Part::More);
            }
        }
        Ok(Part::More)
    }

    /// How far it is, in at most 100 characters.
    fn told(&self, progress: &Progress, of: &str) -> String {
        let all = self.source.types.len();
        let done = self.source.types.iter().position(|known| known == of).unwrap_or_default();
        let lines: u64 = progress.output.iter().map(|file| file.count).sum();
        let what = if progress.position.deletions { "deletions" } else { "resources" };
        format!("{what} of type {} of {all}; {lines} resources written", done + 1)
    }

    /// What is to be told about the export as a whole.
    async fn end(&self, files: Files<'_>, progress: &mut Progress) -> Result<(), Fault> {
        let notes = Facade::export_notes(&self.source);
        if !notes.is_empty() {
            progress.error.clear();
            let file = file_for(&mut progress.error, "OperationOutcome", "error");
            files.append(file, &notes).await?;
        }
        Ok(())
    }
}

/// The file of a kind that takes the next lines.
fn file_for<'f>(list: &'f mut Vec<File>, kind: &str, name: &str) -> &'f mut File {
    let of_kind = list.iter().filter(|file| file.kind == kind).count();
    let is_open = list.last().is_some_and(|file| file.kind == kind && file.count < FILE_LINES);
    if !is_open {
        list.push(File {
            kind: kind.to_owned(),
            name: format!("{name}-{}.ndjson", of_kind + 1),
            bytes: 0,
            count: 0,
            input: None,
        });
    }
    let last = list.len() - 1;
    &mut list[last]
}
