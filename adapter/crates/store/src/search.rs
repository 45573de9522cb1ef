//! Runs searches: <https://hl7.org/fhir/R4/search.html>.
//!
//! The cost of a page must follow from the page and from the most selective condition, not from
//! the size of the table nor from how deep the page lies. So the conditions that an index can
//! answer are counted first, in growing steps and never beyond [`STEPS`]. What is rare is gathered
//! and sorted. Else an index is walked in the order of the search from the cursor on, which fills
//! a page soon just because matches are common; where they turn out not to be, the walk ends after
//! [`Bounds::looked`] rows, and the page with it.

mod condition;
mod gather;
mod order;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;

use lumbar_fhir::search::{Condition, Query, Sort};

use crate::commit::row_ids;
use crate::cursor::{Cursor, Place, Way};
use crate::dialect::{Dialect, Row, Session, Value};
use crate::names::{Fresh, Known, Names};
use crate::resources::{Stored, stored};
use crate::{Error, cursor};
use condition::{Builder, Subject};
use order::Order;

/// Up to how many matches of a condition are counted; the next step is taken when none of them has
/// fewer. A condition with fewer than the last step is rare enough for its rows to be gathered.
const STEPS: [usize; 3] = [64, 512, 4096];

/// Matches up to which an estimate of their number is a count.
const ESTIMATE: usize = 10_000;

/// What one page may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rows that are looked at in a walk before the page ends with what it has.
    pub looked: usize,
    /// Bytes of bodies; a page that would be larger ends earlier, with one match at least.
    pub bytes: usize,
}

impl Bounds {
    /// A page is full or the last one.
    pub const NONE: Bounds = Bounds { looked: usize::MAX, bytes: usize::MAX };
}

/// Whether the number of all matches is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Total {
    /// It is not.
    #[default]
    None,
    /// When it costs little.
    Estimate,
    /// As it is when the first page is asked for.
    Accurate,
}

/// A page that is wanted.
pub(crate) struct Wanted<'q> {
    /// One for each type, equal but for type and condition.
    pub(crate) queries: &'q [Query],
    pub(crate) cursor: Option<Cursor>,
    pub(crate) total: Total,
    pub(crate) bounds: Bounds,
}

impl Wanted<'_> {
    /// Whether all that is asked for is a few keys and one order.
    pub(crate) fn is_plain(&self) -> bool {
        fn is_plain(condition: &Condition) -> bool {
            match condition {
                Condition::All(all) | Condition::Any(all) => all.iter().all(is_plain),
                Condition::Key(_, low, high) => low == high,
                Condition::Id(_) => true,
                _ => false,
            }
        }
        self.total == Total::None
            && self.queries.iter().all(|query| query.sort.len() < 2 && is_plain(&query.condition))
    }
}

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) matches: Vec<Stored>,
    pub(crate) previous: Option<Cursor>,
    pub(crate) next: Option<Cursor>,
    pub(crate) total: Option<u64>,
}

/// A match and its place.
struct Match {
    stored: Stored,
    place: Place,
}

/// Matches in order, as many as were wanted or all there are.
#[derive(Default)]
struct Part {
    matches: Vec<Match>,
    /// Where the search stopped for another reason: a bound was reached. Nothing up to there is
    /// left out.
    stopped: Option<Place>,
}

/// One page. Names learned on the way are added to `fresh`.
pub(crate) async fn run(
    session: &mut Session<'_>,
    names: &Names,
    fresh: &mut Fresh,
    wanted: &Wanted<'_>,
) -> Result<Found, Error> {
    let Some(first) = wanted.queries.first() else { return Ok(Found::default()) };
    let way = wanted.cursor.as_ref().map_or(Way::Forward, |cursor| cursor.way);
    let order = Order::new(cursor::order(wanted.queries), way);
    let mut codes = BTreeSet::new();
    for query in wanted.queries {
        condition::names(&query.resource_type, &query.condition, 0, &mut codes)?;
        for sort in order.sorts {
            if let Sort::Key(code, _) | Sort::Date(code, _) | Sort::Number(code, _) = sort {
                codes.insert((&query.resource_type, code));
            }
        }
    }
    names.check_indexed(codes.iter().copied())?;
    names.learn(session, fresh, &codes).await?;
    let known = names.known(fresh);
    let dialect = session.dialect();
    let mut searches = Vec::new();
    for query in wanted.queries {
        // Nothing of a type without a number was ever stored.
        if let Some(type_id) = known.resource_type(&query.resource_type) {
            searches.push(Search { query, known, type_id, dialect, order });
        }
    }
    // Rows of one type lie together, so this is the order of rows.
    searches.sort_by_key(|search| search.type_id);
    if way == Way::Backward {
        searches.reverse();
    }

    let place = wanted.cursor.as_ref().map(|cursor| &cursor.place);
    let mut page = Part::default();
    if first.count > 0 {
        page = match (searches.as_slice(), order.sorts) {
            ([search], _) => search.part(session, place, first.count + 1, wanted.bounds).await?,
            (searches, []) => in_turn(session, searches, place, first.count, wanted.bounds).await?,
            (searches, _) => merged(session, searches, place, first.count, wanted.bounds).await?,
        };
    }
    page.fit(wanted.bounds.bytes);
    let mut found =
        Found { total: wanted.cursor.as_ref().and_then(|c| c.total), ..Found::default() };
    let is_all = place.is_none() && page.stopped.is_none() && page.matches.len() <= first.count;
    if first.count > 0 && is_all {
        found.total = u64::try_from(page.matches.len()).ok();
    } else if found.total.is_none() && wanted.total != Total::None {
        found.total = total(session, &searches, wanted.total).await?;
    }
    if page.matches.len() > first.count {
        page.matches.truncate(first.count);
        page.stopped = page.matches.last().map(|last| last.place.clone());
    }
    let turn = |way, place: &Place| Cursor { way, place: place.clone(), total: found.total };
    let beyond = page.stopped.as_ref().map(|place| turn(way, place));
    // What lies before a page that was begun somewhere: all before its first match, or before
    // where it stopped, when there was none up to there.
    let back = match way {
        Way::Forward => Way::Backward,
        Way::Backward => Way::Forward,
    };
    let edge = page.matches.first().map(|first| &first.place).or(page.stopped.as_ref());
    let behind = place.and(edge).map(|place| turn(back, place));
    (found.previous, found.next) = match way {
        Way::Forward => (behind, beyond),
        Way::Backward => (beyond, behind),
    };
    found.matches = page.matches.into_iter().map(|found| found.stored).collect();
    if way == Way::Backward {
        found.matches.reverse();
    }
    Ok(found)
}

/// Matches of several types in the order of rows: one type after the other.
async fn in_turn(
    session: &mut Session<'_>,
    searches: &[Search<'_>],
    place: Option<&Place>,
    count: usize,
    mut bounds: Bounds,
) -> Result<Part, Error> {
    bounds.looked = share(bounds.looked, searches.len());
    let mut page = Part::default();
    for search in searches {
        let (first, last) = row_ids(search.type_id);
        let passed = place.is_some_and(|place| match search.order.way {
            Way::Forward => last <= place.row_id,
            Way::Backward => first >= place.row_id,
        });
        if passed {
            continue;
        }
        let wanted = count + 1 - page.matches.len();
        let part = search.part(session, place, wanted, bounds).await?;
        let bytes: usize = part.matches.iter().map(|found| length(&found.stored)).sum();
        bounds.bytes = bounds.bytes.saturating_sub(bytes);
        page.matches.extend(part.matches);
        page.stopped = part.stopped;
        if page.stopped.is_some() || page.matches.len() > count {
            break;
        }
        if bounds.bytes == 0 {
            page.stopped = page.matches.last().map(|last| last.place.clone());
            break;
        }
    }
    Ok(page)
}

/// Matches of several types, merged in the order of the search.
async fn merged(
    session: &mut Session<'_>,
    searches: &[Search<'_>],
    place: Option<&Place>,
    count: usize,
    bounds: Bounds,
) -> Result<Part, Error> {
    let Some(first) = searches.first() else { return Ok(Part::default()) };
    let share = Bounds {
        looked: share(bounds.looked, searches.len()),
        bytes: bounds.bytes / searches.len(),
    };
    let order = first.order;
    let mut page = Part::default();
    for search in searches {
        let part = search.part(session, place, count + 1, share).await?;
        page.matches.extend(part.matches);
        // Beyond the first stop a match of that type may be missing.
        let stops = page.stopped.take().into_iter().chain(part.stopped);
        page.stopped = stops.min_by(|one, two| order.compare(one, two));
    }
    page.matches.sort_by(|one, two| order.compare(&one.place, &two.place));
    if let Some(stopped) = &page.stopped {
        page.matches.retain(|found| order.compare(&found.place, stopped).is_le());
    }
    Ok(page)
}

/// The part of a bound for each of so many; no type goes empty-handed.
fn share(looked: usize, types: usize) -> usize {
    if looked == usize::MAX { looked } else { (looked / types.max(1)).max(looked.min(512)) }
}

impl Part {
    /// Keeps what fits, one match at least.
    fn fit(&mut self, bytes: usize) {
        let mut sum = 0_usize;
        let fits = self.matches.iter().take_while(|found| {
            sum = sum.saturating_add(length(&found.stored));
            sum <= bytes
        });
        let fits = fits.count().max(1);
        if fits < self.matches.len() {
            self.matches.truncate(fits);
            self.stopped = self.matches.last().map(|last| last.place.clone());
        }
    }
}

fn length(stored: &Stored) -> usize {
    stored.body.as_ref().map_or(0, |body| body.len())
}

async fn total(
    session: &mut Session<'_>,
    searches: &[Search<'_>],
    how: Total,
) -> Result<Option<u64>, Error> {
    let mut total = 0;
    for search in searches {
        let driver = search.driver(session).await?;
        let limit = (how == Total::Estimate).then_some(ESTIMATE);
        let (sql, values) = search.total(driver, limit)?;
        let rows = session.fetch(sql, values).await?;
        let count = rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)?;
        total += u64::try_from(count).unwrap_or(0);
        if limit.is_some_and(|limit| total >= limit as u64) {
            return Ok(None);
        }
    }
    Ok(Some(total))
}

/// A query whose names are known.
struct Search<'a> {
    query: &'a Query,
    known: Known<'a>,
    type_id: i64,
    dialect: Dialect,
    order: Order<'a>,
}

/// Where the rows of a search come from.
#[derive(Clone, Copy, Debug)]
enum Driver<'a> {
    /// The rows for which a condition holds, gathered and sorted.
    Rows(&'a Condition),
    /// The one key of one parameter, whose index is in the order of rows.
    Key(&'a Condition),
    /// All rows of the type, in the order of the search.
    Type,
}

impl<'a> Search<'a> {
    fn builder(&self) -> Builder<'a> {
        Builder::new(self.known, self.dialect)
    }

    fn subject(&self) -> Subject<'a> {
        Subject { resource_type: &self.query.resource_type, type_id: self.type_id, alias: 0 }
    }

    /// The conditions that must all hold.
    fn conditions(&self) -> &'a [Condition] {
        match &self.query.condition {
            Condition::All(conditions) => conditions,
            condition => std::slice::from_ref(condition),
        }
    }

    /// Up to `count` matches after a place.
    async fn part(
        &self,
        session: &mut Session<'_>,
        place: Option<&Place>,
        count: usize,
        bounds: Bounds,
    ) -> Result<Part, Error> {
        match self.driver(session).await? {
            Driver::Rows(condition) => {
                let statement = self.gather(condition, place, count)?;
                let mut part = Part::default();
                self.read(session, statement, &mut part, bounds).await?;
                Ok(part)
            }
            Driver::Key(condition) => {
                self.walk(session, Some(condition), place, count, bounds).await
            }
            Driver::Type => self.walk(session, None, place, count, bounds).await,
        }
    }

    /// Counts what can be counted and picks the rarest.
    async fn driver(&self, session: &mut Session<'_>) -> Result<Driver<'a>, Error> {
        let unsorted = self.order.sorts.is_empty();
        let is_key = |condition: &Condition| {
            unsorted && matches!(condition, Condition::Key(_, low, high) if low == high)
        };
        let mut candidates = Vec::new();
        for condition in self.conditions() {
            if self.builder().rows(condition, self.subject())?.is_some() {
                candidates.push(condition);
            }
        }
        match candidates.as_slice() {
            [] => return Ok(Driver::Type),
            [condition] if is_key(condition) => return Ok(Driver::Key(condition)),
            _ => {}
        }
        // A search that names a patient or an identifier is decided by a short look.
        for limit in STEPS {
            let mut builder = self.builder();
            let mut counts = Vec::new();
            for condition in &candidates {
                counts.push(self.count(&mut builder, condition, self.subject(), limit)?);
            }
            let sql = format!("SELECT {}", counts.join(","));
            let rows = session.fetch(sql, builder.finish()?).await?;
            let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
            let mut best: Option<(i64, &'a Condition)> = None;
            for (column, condition) in candidates.iter().enumerate() {
                let count = row.int(column)?;
                if best.is_none_or(|(least, _)| count < least) {
                    best = Some((count, condition));
                }
            }
            if let Some((count, condition)) = best
                && usize::try_from(count).is_ok_and(|count| count < limit)
            {
                let key = is_key(condition);
                return Ok(if key { Driver::Key(condition) } else { Driver::Rows(condition) });
            }
        }
        let key = candidates.into_iter().find(|condition| is_key(condition));
        Ok(key.map_or(Driver::Type, Driver::Key))
    }

    /// How many rows a condition has, up to `limit`. What leads to other resources is followed only
    /// when few of these are meant: else following them would cost as much as there are.
    fn count(
        &self,
        builder: &mut Builder<'a>,
        condition: &'a Condition,
        subject: Subject<'a>,
        limit: usize,
    ) -> Result<String, Error> {
        let mut guards = Vec::new();
        self.guards(builder, condition, limit, &mut guards)?;
        let rows = builder.rows(condition, subject)?.unwrap_or_default();
        let mut count = format!("(SELECT count(*) FROM ({rows} LIMIT {limit}) c)");
        for guard in guards {
            count = format!("CASE WHEN {guard} < {limit} THEN {count} ELSE {limit} END");
        }
        Ok(count)
    }

    /// The counts that must be below `limit` before the rows of a condition are asked for.
    fn guards(
        &self,
        builder: &mut Builder<'a>,
        condition: &'a Condition,
        limit: usize,
        guards: &mut Vec<String>,
    ) -> Result<(), Error> {
        match condition {
            Condition::All(conditions) | Condition::Any(conditions) => {
                for condition in conditions {
                    self.guards(builder, condition, limit, guards)?;
                }
            }
            Condition::Refers(_, other, inner) | Condition::ReferredBy(other, _, inner) => {
                if let Some(type_id) = self.known.resource_type(other) {
                    let subject = Subject { resource_type: other, type_id, alias: 0 };
                    if self.builder().rows(inner, subject)?.is_some() {
                        guards.push(self.count(builder, inner, subject, limit)?);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Runs a statement whose columns are those of a version, the row id, and the values that are
    /// sorted by, and adds its rows. Returns whether it was read to its end.
    async fn read(
        &self,
        session: &mut Session<'_>,
        (sql, values): (String, Vec<Value>),
        part: &mut Part,
        bounds: Bounds,
    ) -> Result<bool, Error> {
        let mut bytes: usize = part.matches.iter().map(|found| length(&found.stored)).sum();
        let mut whole = true;
        session
            .fetch_each(sql, values, |row| {
                let stored = stored(&self.query.resource_type, row, 0)?;
                bytes = bytes.saturating_add(length(&stored));
                whole = bytes <= bounds.bytes || part.matches.is_empty();
                if whole {
                    part.matches.push(Match { stored, place: self.place(row, 5)? });
                }
                Ok(whole)
            })
            .await?;
        if !whole {
            part.stopped = part.matches.last().map(|last| last.place.clone());
        }
        Ok(whole)
    }

    /// The place that a row tells from `column` on: its row id, then the values sorted by.
    fn place(&self, row: &Row, column: usize) -> Result<Place, Error> {
        let mut values = Vec::with_capacity(self.order.sorts.len());
        for (number, sort) in self.order.sorts.iter().enumerate() {
            let column = column + 1 + number;
            values.push(match sort {
                Sort::Id(_) | Sort::Key(..) => row.text_or_null(column)?.map(Value::from),
                Sort::LastUpdated(_) | Sort::Date(..) => row.int_or_null(column)?.map(Value::from),
                Sort::Number(..) => row.real_or_null(column)?.map(Value::from),
            });
        }
        Ok(Place { values, row_id: row.int(column)? })
    }
}
