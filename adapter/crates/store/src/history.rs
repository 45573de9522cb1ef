//! Versions, newest first: <https://hl7.org/fhir/R4/http.html#history>.
//!
//! Of one resource they go by version; of a type and of all types by time, and by the order of
//! commits within a moment. A cursor names the version at which a page ended and is looked up, so a
//! page begins where an index says and a made-up cursor gains nothing. Only numbers are read to find
//! a page; bodies are fetched for the versions on it.

use lumbar_fhir::datetime::Micros;

use crate::Error;
use crate::commit::{Method, TYPE_SHIFT};
use crate::dialect::{Row, Session, Value};
use crate::resources::{Stored, clean, stored};

/// Versions that are looked at for one page when only some belong to it: the page then holds what
/// was found, maybe less than asked for, and the next one goes on.
const LOOKED_AT: usize = 5000;

/// Versions of one statement that fetches bodies.
const CHUNK: usize = 64;

/// Which versions are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// `None` for all types.
    pub resource_type: Option<&'a str>,
    /// `None` for all resources of the type.
    pub id: Option<&'a str>,
    /// Only versions written at this moment or later.
    pub since: Option<Micros>,
    /// Only versions that were current at some moment between these, both included; a deletion
    /// counts for the moment in which it happened.
    pub at: Option<(Micros, Micros)>,
    /// Most versions on a page.
    pub count: usize,
    /// Most bytes of bodies on a page, which holds one version at least.
    pub bytes: usize,
    /// Where the page begins: a cursor that an earlier page gave.
    pub cursor: Option<&'a str>,
}

/// One version, as a history tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version.
    pub stored: Stored,
    /// Whether there was no such resource before it.
    pub created: bool,
}

/// One page of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Newest first.
    pub versions: Vec<Version>,
    /// Cursor of the page with newer versions; `None` when the page has the newest.
    pub previous: Option<String>,
    /// Cursor of the page with older versions; `None` on the last page.
    pub next: Option<String>,
}

/// Where the versions stand that are asked for.
enum Scope {
    Instance(i64),
    Type(i64),
    System,
}

impl Scope {
    /// What is asked for; `None` when nothing of it was ever stored.
    async fn find(session: &mut Session<'_>, asked: &History<'_>) -> Result<Option<Scope>, Error> {
        let Some(resource_type) = asked.resource_type else { return Ok(Some(Scope::System)) };
        let sql = match asked.id {
            None => "SELECT type_id FROM resource_type WHERE name = $1",
            Some(_) => {
                "SELECT row_id FROM resource \
                 WHERE type_id = (SELECT type_id FROM resource_type WHERE name = $1) AND id = $2"
            }
        };
        let values = [Some(resource_type), asked.id].into_iter().flatten().map(clean).collect();
        let rows = session.fetch(sql, values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let number = row.int(0)?;
        Ok(Some(if asked.id.is_some() { Scope::Instance(number) } else { Scope::Type(number) }))
    }

    fn holds(&self, row_id: i64) -> bool {
        match self {
            Scope::Instance(own) => *own == row_id,
            Scope::Type(type_id) => *type_id == row_id >> TYPE_SHIFT,
            Scope::System => true,
        }
    }
}

/// The version at the end of a page.
struct Cursor {
    row_id: i64,
    version: i64,
    /// Whether the page is the one with newer versions.
    newer: bool,
}

impl Cursor {
    fn write(&self) -> String {
        let side = if self.newer { 'n' } else { 'o' };
        format!("{side}{:x}.{:x}", self.row_id, self.version)
    }

    fn read(text: &str) -> Option<Cursor> {
        let newer = text.starts_with('n');
        let (row_id, version) = text.strip_prefix(['n', 'o'])?.split_once('.')?;
        let number = |text: &str| {
            i64::from_str_radix(text, 16).ok().filter(|number| *number > 0 && text.len() <= 16)
        };
        Some(Cursor { row_id: number(row_id)?, version: number(version)?, newer })
    }
}

/// A cursor and where its version stands.
struct Place {
    version: i64,
    last_updated: Micros,
    seq: i64,
    newer: bool,
}

impl Place {
    async fn find(session: &mut Session<'_>, scope: &Scope, cursor: &str) -> Result<Place, Error> {
        let Cursor { row_id, version, newer } = Cursor::read(cursor).ok_or(Error::Cursor)?;
        if !scope.holds(row_id) {
            return Err(Error::Cursor);
        }
        let sql = "SELECT last_updated, seq FROM resource WHERE row_id = $1 AND version = $2 \
                   UNION ALL \
                   SELECT last_updated, seq FROM history WHERE row_id = $1 AND version = $2";
        let rows = session.fetch(sql, vec![row_id.into(), version.into()]).await?;
        let row = rows.first().ok_or(Error::Cursor)?;
        Ok(Place { version, last_updated: row.int(0)?, seq: row.int(1)?, newer })
    }
}

/// A version that was looked at.
struct Candidate {
    row_id: i64,
    version: i64,
    last_updated: Micros,
    method: Method,
    /// When the next version was written; with no next one, never.
    until: Micros,
    bytes: usize,
}

impl Candidate {
    fn read(row: &Row) -> Result<Candidate, Error> {
        Ok(Candidate {
            row_id: row.int(0)?,
            version: row.int(1)?,
            last_updated: row.int(2)?,
            method: Method::from_number(row.int(4)?)?,
            until: row.int(5)?,
            bytes: usize::try_from(row.int(6)?).unwrap_or(usize::MAX),
        })
    }

    /// Whether it was current at some moment from `low` on.
    fn lasts_to(&self, low: Micros) -> bool {
        match self.method {
            Method::Delete => self.last_updated >= low,
            Method::Create | Method::Update => self.until > low || self.last_updated >= low,
        }
    }

    fn cursor(&self, newer: bool) -> String {
        Cursor { row_id: self.row_id, version: self.version, newer }.write()
    }
}

/// A statement in the making.
struct Builder {
    values: Vec<Value>,
}

impl Builder {
    fn bind(&mut self, value: i64) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// What must hold for a version `v` of the current ones, or of the older ones.
    fn wanted(
        &mut self,
        scope: &Scope,
        asked: &History<'_>,
        place: Option<&Place>,
        older: bool,
    ) -> String {
        let mut wanted = vec!["1 = 1".to_owned()];
        match scope {
            Scope::System => {}
            Scope::Type(type_id) if older => {
                wanted.push(format!("(v.row_id >> {TYPE_SHIFT}) = {}", self.bind(*type_id)));
            }
            Scope::Type(type_id) => wanted.push(format!("v.type_id = {}", self.bind(*type_id))),
            Scope::Instance(row_id) => wanted.push(format!("v.row_id = {}", self.bind(*row_id))),
        }
        if let Some(since) = asked.since {
            wanted.push(format!("v.last_updated >= {}", self.bind(since)));
        }
        if let Some((_, high)) = asked.at {
            wanted.push(format!("v.last_updated <= {}", self.bind(high)));
        }
        if let Some(place) = place {
            let beyond = if place.newer { '>' } else { '<' };
            wanted.push(match scope {
                Scope::Instance(_) => format!("v.version {beyond} {}", self.bind(place.version)),
                Scope::Type(_) | Scope::System => {
                    let (time, seq) = (self.bind(place.last_updated), self.bind(place.seq));
                    format!("(v.last_updated, v.seq) {beyond} ({time}, {seq})")
                }
            });
        }
        wanted.join(" AND ")
    }
}

/// When the version after `v`, which is not the current one, was written.
const UNTIL: &str = "coalesce((SELECT n.last_updated FROM history n \
                     WHERE n.row_id = v.row_id AND n.version > v.version \
                     ORDER BY n.version LIMIT 1), \
                     (SELECT c.last_updated FROM resource c WHERE c.row_id = v.row_id))";

/// One page.
pub(crate) async fn run(session: &mut Session<'_>, asked: &History<'_>) -> Result<Versions, Error> {
    let Some(scope) = Scope::find(session, asked).await? else { return Ok(Versions::default()) };
    let place = match asked.cursor {
        Some(cursor) => Some(Place::find(session, &scope, cursor).await?),
        None => None,
    };
    let newer = place.as_ref().is_some_and(|place| place.newer);
    let limit = match asked.at {
        Some(_) => LOOKED_AT.max(asked.count.saturating_add(1)),
        None => asked.count.saturating_add(1),
    };
    let mut builder = Builder { values: Vec::new() };
    let direction = if newer { "ASC" } else { "DESC" };
    let order = match scope {
        Scope::Instance(_) => format!("version {direction}"),
        Scope::Type(_) | Scope::System => format!("last_updated {direction}, seq {direction}"),
    };
    let number = builder.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let current = builder.wanted(&scope, asked, place.as_ref(), false);
    let older = builder.wanted(&scope, asked, place.as_ref(), true);
    let until = if asked.at.is_some() { UNTIL } else { "0" };
    let columns = "v.row_id, v.version, v.last_updated, v.seq, v.method";
    let bytes = "CAST(coalesce(octet_length(v.body), 0) AS BIGINT) AS bytes";
    let sql = format!(
        "SELECT row_id, version, last_updated, seq, method, until, bytes FROM (\
         SELECT * FROM (SELECT {columns}, {never} AS until, {bytes} FROM resource v \
         WHERE {current} ORDER BY {order} LIMIT {number}) a \
         UNION ALL SELECT * FROM (SELECT {columns}, {until} AS until, {bytes} FROM history v \
         WHERE {older} ORDER BY {order} LIMIT {number}) b) c ORDER BY {order} LIMIT {number}",
        never = i64::MAX,
    );
    let rows = session.fetch(sql, builder.values).await?;
    let looked_at = rows.iter().map(Candidate::read).collect::<Result<Vec<_>, _>>()?;
    let mut more = looked_at.len() == limit;
    let mut last = more.then(|| looked_at.last().map(|last| last.cursor(newer))).flatten();
    let (mut kept, mut bytes) = (Vec::new(), 0_usize);
    for candidate in looked_at {
        if asked.at.is_some_and(|(low, _)| !candidate.lasts_to(low)) {
            continue;
        }
        bytes = bytes.saturating_add(candidate.bytes);
        if kept.len() == asked.count || (bytes > asked.bytes && !kept.is_empty()) {
            more = true;
            last = kept.last().map(|last: &Candidate| last.cursor(newer));
            break;
        }
        kept.push(candidate);
    }
    if newer {
        kept.reverse();
    }
    let first = kept.first().map(|first| first.cursor(true));
    let end = kept.last().map(|end| end.cursor(false));
    let (previous, next) = if newer {
        (last.filter(|_| more), end)
    } else {
        (first.filter(|_| asked.cursor.is_some()), last.filter(|_| more))
    };
    Ok(Versions { versions: fetch(session, &kept).await?, previous, next })
}

/// The versions themselves, in the order of `wanted`.
async fn fetch(session: &mut Session<'_>, wanted: &[Candidate]) -> Result<Vec<Version>, Error> {
    let mut versions = Vec::with_capacity(wanted.len());
    for chunk in wanted.chunks(CHUNK) {
        // Between the two statements a current version may have become an older one.
        let sql = format!(
            "WITH wanted (row_id, version) AS (VALUES {}) \
             SELECT r.id, w.version, CASE WHEN h.row_id IS NULL THEN r.last_updated ELSE h.last_updated END, \
             CASE WHEN h.row_id IS NULL THEN r.method ELSE h.method END, \
             CASE WHEN h.row_id IS NULL THEN r.body ELSE h.body END, t.name, w.row_id, \
             (SELECT p.method FROM history p WHERE p.row_id = w.row_id AND p.version < w.version \
             ORDER BY p.version DESC LIMIT 1) \
             FROM wanted w CROSS JOIN resource r CROSS JOIN resource_type t \
             LEFT JOIN history h ON h.row_id = w.row_id AND h.version = w.version \
             WHERE r.row_id = w.row_id AND t.type_id = r.type_id",
            session.dialect().tuples(CHUNK, 2)
        );
        // Statements of one length are prepared once.
        let padded = chunk.iter().chain(std::iter::repeat(&chunk[0])).take(CHUNK);
        let values = padded.flat_map(|one| [one.row_id.into(), one.version.into()]).collect();
        let mut found = Vec::with_capacity(CHUNK);
        for row in session.fetch(sql, values).await? {
            let before = row.int_or_null(7)?.map(Method::from_number).transpose()?;
            let created = matches!(before, None | Some(Method::Delete));
            let stored = stored(row.text(5)?, &row, 0)?;
            found.push((row.int(6)?, Some(Version { stored, created })));
        }
        for one in chunk {
            let same = found.iter_mut().find(|(row_id, version)| {
                *row_id == one.row_id
                    && version.as_ref().is_some_and(|found| found.stored.version == one.version)
            });
            versions.extend(same.and_then(|(_, version)| version.take()));
        }
    }
    Ok(versions)
}

/// How many versions there are.
pub(crate) async fn total(session: &mut Session<'_>, asked: &History<'_>) -> Result<u64, Error> {
    let Some(scope) = Scope::find(session, asked).await? else { return Ok(0) };
    let mut builder = Builder { values: Vec::new() };
    let mut current = builder.wanted(&scope, asked, None, false);
    let mut older = builder.wanted(&scope, asked, None, true);
    if let Some((low, _)) = asked.at {
        let low = builder.bind(low);
        let delete = builder.bind(Method::Delete.number());
        current += &format!(" AND (v.method <> {delete} OR v.last_updated >= {low})");
        older += &format!(
            " AND (v.last_updated >= {low} OR (v.method <> {delete} AND {UNTIL} > {low}))"
        );
    }
    let sql = format!(
        "SELECT (SELECT count(*) FROM resource v WHERE {current}) \
         + (SELECT count(*) FROM history v WHERE {older})"
    );
    let rows = session.fetch(sql, builder.values).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(u64::try_from(row.int(0)?).unwrap_or(0))
}
