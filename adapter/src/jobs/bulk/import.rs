//! Reads the files of an import line by line and puts the resources through the door:
//! <https://hl7.org/fhir/uv/bulkdata/>.
//!
//! Each line is stored, unchanged or refused, and an OperationOutcome whose id names the line says
//! which: those of refused lines are in one file, those of the others in another.

use std::collections::HashSet;

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::BulkJob;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::{Fault, Files, Part};
use crate::app::App;
use crate::delivery::download;
use crate::facade::Error;
use crate::facade::bulk::import::{Asked, Input};
use crate::facade::bulk::{File, Progress, read};
use crate::security::Caller;

/// Bytes of lines that are held at a time, unless one line is longer.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// An import that is being done.
pub(super) struct Importing {
    asked: Asked,
}

/// A line of a file.
enum Line {
    Text(Vec<u8>),
    /// Longer than a line may be.
    TooLong,
}

/// A line with its number, as it can be put, or why it cannot.
type Numbered = (u64, Result<Json, Vec<Issue>>);

/// What became of a line.
enum Became {
    Stored,
    Unchanged,
    Refused(Vec<Issue>),
}

impl Importing {
    pub(super) fn open(job: &BulkJob) -> Result<Importing, Fault> {
        Ok(Importing { asked: read(&job.request)? })
    }

    pub(super) async fn part(
        &mut self,
        app: &App,
        files: Files<'_>,
        progress: &mut Progress,
    ) -> Result<Part, Fault> {
        progress.counts.get_or_insert_default();
        let number = progress.position.input;
        let Some(input) = self.asked.inputs.get(number) else { return Ok(Part::End) };
        let name = format!("input-{}.ndjson", number + 1);
        let Some(length) = progress.position.fetched else {
            return fetch(app, files, progress, input, &name).await;
        };
        let (mut lines, mut keys) = (Vec::<Numbered>::new(), HashSet::new());
        let (mut offset, mut line) = (progress.position.offset, progress.position.line);
        let file = files.folder.open(files.job, &name, offset).await?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let limit = app.settings.bulk.line_bytes;
        let (mut held, mut at_end) = (0, offset >= length);
        while !at_end && lines.len() < app.settings.bulk.chunk.max(1) && held < PART_BYTES {
            let Some((text, bytes)) = next_line(&mut reader, limit).await? else {
                at_end = true;
                break;
            };
            let resource = match text {
                Line::Text(text) if text.trim_ascii().is_empty() => None,
                Line::Text(text) => {
                    held += text.len();
                    Some(app.facade.import_line(&text, input.kind.as_deref()))
                }
                Line::TooLong => Some(Err(vec![Issue::error(
                    IssueType::TooLong,
                    format!("The line is longer than {limit} bytes."),
                )])),
            };
            // Of two lines about one resource the second is put after the first.
            if let Some(Ok(resource)) = &resource
                && !keys.insert(key(resource))
            {
                break;
            }
            offset += bytes;
            line += 1;
            at_end = offset >= length;
            lines.extend(resource.map(|resource| (line, resource)));
        }
        let became = put(app, lines).await?;
        report(files, progress, input, &became).await?;
        progress.position.offset = offset;
        progress.position.line = line;
        if at_end {
            next_input(progress);
        }
        let counts = progress.counts.unwrap_or_default();
        progress.told = format!(
            "file {} of {}; {} lines read, {} refused",
            number + 1,
            self.asked.inputs.len(),
            counts.lines,
            counts.refused
        );
        Ok(Part::More)
    }
}

fn next_input(progress: &mut Progress) {
    let position = &mut progress.position;
    position.input += 1;
    (position.offset, position.line, position.fetched) = (0, 0, None);
}

/// Brings a file into the job's folder.
async fn fetch(
    app: &App,
    files: Files<'_>,
    progress: &mut Progress,
    input: &Input,
    name: &str,
) -> Result<Part, Fault> {
    let most = app.settings.bulk.file_bytes;
    let fetched = match &input.url {
        None => {
            files.folder.open(files.job, name, 0).await?.metadata().await.map(|m| Ok(m.len()))?
        }
        Some(url) => {
            let mut file = files.folder.append(files.job, name, 0).await?;
            download(url, &mut file, most).await
        }
    };
    match fetched {
        Ok(length) => progress.position.fetched = Some(length),
        Err(reason) => {
            let issue =
                Issue::error(IssueType::NotFound, format!("{reason} None of its lines were read."));
            let outcome = operation_outcome(&[issue]).to_string();
            let number = progress.position.input;
            files
                .append(file_for(&mut progress.error, "refused", number, input), &[outcome])
                .await?;
            next_input(progress);
        }
    }
    Ok(Part::More)
}

/// Puts the resources together; when they cannot be stored together, each alone, so that one that
/// is not valid keeps no other out.
async fn put(app: &App, lines: Vec<Numbered>) -> Result<Vec<(u64, Json, Became)>, Fault> {
    let resources: Vec<Json> =
        lines.iter().filter_map(|(_, line)| line.as_ref().ok().cloned()).collect();
    let together = match resources.as_slice() {
        [] => Ok(Vec::new()),
        resources => app.facade.import_lines(&Caller::System, resources).await,
    };
    let mut written = match together {
        Ok(written) => Some(written.into_iter()),
        Err(error) if is_ours(&error) => return Err(error.into()),
        Err(_) => None,
    };
    let mut became = Vec::with_capacity(lines.len());
    for (number, line) in lines {
        let resource = match line {
            Ok(resource) => resource,
            Err(issues) => {
                became.push((number, Json::Null, Became::Refused(issues)));
                continue;
            }
        };
        let alone = match &mut written {
            Some(written) => Ok(written.next().unwrap_or(false)),
            None => {
                let alone = std::slice::from_ref(&resource);
                let put = app.facade.import_lines(&Caller::System, alone).await;
                put.map(|written| written.first().copied().unwrap_or(false))
            }
        };
        let end = match alone {
            Ok(true) => Became::Stored,
            Ok(false) => Became::Unchanged,
            Err(error) if is_ours(&error) => return Err(error.into()),
            Err(error) => Became::Refused(error.issues()),
        };
        became.push((number, resource, end));
    }
    Ok(became)
}

/// Whether an error says nothing about the resource.
fn is_ours(error: &Error) -> bool {
    matches!(error, Error::Busy | Error::Timeout | Error::Internal)
}

/// Writes what became of lines, and counts them.
async fn report(
    files: Files<'_>,
    progress: &mut Progress,
    input: &Input,
    became: &[(u64, Json, Became)],
) -> Result<(), Fault> {
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    let mut counts = progress.counts.unwrap_or_default();
    for (line, resource, became) in became {
        counts.lines += 1;
        let told = |what: &str| {
            let (of, id) = key(resource);
            let text = format!("Line {line}: {of}/{id} {what}.");
            vec![Issue::information(IssueType::Informational, text)]
        };
        let issues = match became {
            Became::Stored => told("was stored"),
            Became::Unchanged => told("says what is stored already"),
            Became::Refused(issues) => {
                let numbered = |issue: &Issue| Issue {
                    text: format!("Line {line}: {}", issue.text),
                    ..issue.clone()
                };
                issues.iter().map(numbered).collect()
            }
        };
        let mut outcome = operation_outcome(&issues);
        if let Some(object) = outcome.as_object_mut() {
            object.set_at(1, "id", format!("line-{line}"));
        }
        let list = match became {
            Became::Stored => {
                counts.stored += 1;
                &mut kept
            }
            Became::Unchanged => {
                counts.unchanged += 1;
                &mut kept
            }
            Became::Refused(_) => {
                counts.refused += 1;
                &mut refused
            }
        };
        list.push(outcome.to_string());
    }
    let number = progress.position.input;
    if !kept.is_empty() {
        files.append(file_for(&mut progress.output, "kept", number, input), &kept).await?;
    }
    if !refused.is_empty() {
        files.append(file_for(&mut progress.error, "refused", number, input), &refused).await?;
    }
    progress.counts = Some(counts);
    Ok(())
}

/// The report on a file.
fn file_for<'f>(list: &'f mut Vec<File>, what: &str, number: usize, input: &Input) -> &'f mut File {
    let name = format!("{what}-{}.ndjson", number + 1);
    if list.last().is_none_or(|file| file.name != name) {
        list.push(File {
            kind: "OperationOutcome".to_owned(),
            name,
            bytes: 0,
            count: 0,
            input: input.url.clone(),
        });
    }
    let last = list.len() - 1;
    &mut list[last]
}

fn key(resource: &Json) -> (String, String) {
    let part = |name| resource.str_at(&[name]).unwrap_or_default().to_owned();
    (part("resourceType"), part("id"))
}

/// The next line without its end, and how many bytes of the file it takes; `None` at the end. Of a
/// line that is too long nothing is kept.
async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> std::io::Result<Option<(Line, u64)>> {
    let (mut text, mut bytes, mut is_long) = (Vec::new(), 0_u64, false);
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (piece, used) = match end {
            Some(end) => (&buffer[..end], end + 1),
            None => (buffer, buffer.len()),
        };
        if text.len() + piece.len() > limit {
            is_long = true;
            text = Vec::new();
        }
        if !is_long {
            text.extend_from_slice(piece);
        }
        bytes += u64::try_from(used).unwrap_or_default();
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok((bytes > 0).then_some((if is_long { Line::TooLong } else { Line::Text(text) }, bytes)))
}
