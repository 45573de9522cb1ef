//! Searches of contained resources: <https://hl7.org/fhir/R4/search.html#contained>.
//!
//! What is found in the store is what contains them. With `_containedType=contained` each page of
//! that is taken apart: the contained resources that match are given in the order of what contains
//! them, then of their place in it, each with the container's URL and `#id` as its `fullUrl`. A page
//! ends between two containers, or within one that has more matches than a page; its links then
//! carry, after the store's cursor, where within it the page begins.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lumbar_fhir::search::{
    self as search_language, Candidate, Condition, Contained, Query, Sort, is_linked, within,
};
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::{Bounds, Page, Stored, Total};

use crate::facade::{Error, Facade};

/// Most containers that are looked into for the number of all matches.
const MAX_COUNTED: usize = 20_000;

/// As how many a page counts that has fewer, because much was looked at in vain.
const MIN_COUNTED: usize = 500;

/// Stands between the parts of a cursor.
const SEPARATOR: char = '~';

/// What is looked for in what contains it.
pub(super) struct Alone {
    /// The query for what stands for itself.
    query: Query,
    which: Contained,
}

/// The queries that find what contains a resource of the type that a query asks for.
///
/// # Errors
/// It is sorted, or asks, by what contained resources do not have.
pub(super) fn containers<'t>(
    types: impl Iterator<Item = &'t str>,
    query: &Query,
    which: Contained,
) -> Result<Vec<Query>, Error> {
    if query.sort.iter().any(|sort| !matches!(sort, Sort::Id(_) | Sort::LastUpdated(_))) {
        let text = "Contained resources stand in the order of what contains them, which can be sorted by _id and _lastUpdated only, as in _sort=-_lastUpdated.";
        return Err(refused("_sort", IssueType::NotSupported, text.to_owned()));
    }
    let Some(places) = within(&query.resource_type, &query.condition) else {
        let text = "Nothing refers to a contained resource from elsewhere; leave _has and _list out where _contained is true or both.";
        return Err(refused("_contained", IssueType::NotSupported, text.to_owned()));
    };
    let of = |name: &str| {
        let mut any = places.clone();
        if which == Contained::Both && name == query.resource_type {
            any.insert(0, query.condition.clone());
        }
        Query { resource_type: name.to_owned(), condition: Condition::Any(any), ..query.clone() }
    };
    Ok(types.map(of).collect())
}

/// Where contained resources are not looked at.
pub(in crate::facade) fn no_contained() -> Error {
    let text = "Contained resources are looked at where resources of one type are searched, as in Medication?_contained=true; leave _contained out here.";
    refused("_contained", IssueType::NotSupported, text.to_owned())
}

fn refused(name: &str, code: IssueType, text: String) -> Error {
    Error::Unparseable(vec![Issue::error(code, text).at(format!("http.{name}"))])
}

/// Where a page begins: `cursor~way~given~container~total`, of which all but the first are left out
/// when the page begins with a container and goes forward.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Turn {
    /// The store's.
    cursor: Option<String>,
    /// Whether the page ends at the cursor.
    back: bool,
    /// The container next to the cursor, and how many of its matches lie before the page (or, going
    /// back, before its end).
    within: Option<(String, usize)>,
    /// The number of all matches, when the first page gave it.
    total: Option<u64>,
}

impl Turn {
    fn read(text: &str) -> Option<Turn> {
        let mut parts = text.split(SEPARATOR);
        let cursor = parts.next().filter(|cursor| !cursor.is_empty()).map(str::to_owned);
        let Some(way) = parts.next() else { return Some(Turn { cursor, ..Turn::default() }) };
        let back = match way {
            "next" => false,
            "previous" => true,
            _ => return None,
        };
        let number = |text: &str| match text {
            "" => Some(None),
            text => text.parse::<u64>().ok().map(Some),
        };
        let (given, name, total) = (parts.next()?, parts.next()?, parts.next()?);
        let given = match number(given)? {
            Some(given) => Some((name.to_owned(), usize::try_from(given).ok()?)),
            None => None,
        };
        let is_whole = parts.next().is_none();
        is_whole.then_some(Turn { cursor, back, within: given, total: number(total)? })
    }

    fn write(&self) -> Option<String> {
        let Turn { cursor, back, within, total } = self;
        let text = cursor.clone().unwrap_or_default();
        if !back && within.is_none() && total.is_none() {
            return Some(text).filter(|text| !text.is_empty());
        }
        let way = if *back { "previous" } else { "next" };
        let (name, given) = match within {
            Some((name, given)) => (name.as_str(), given.to_string()),
            None => ("", String::new()),
        };
        let total = total.map(|total| total.to_string()).unwrap_or_default();
        let parts = [text.as_str(), way, &given, name, &total];
        Some(parts.join(&SEPARATOR.to_string()))
    }
}

/// What contains matches, or is one, and these.
struct Group {
    name: String,
    matches: Vec<Stored>,
}

/// The part of some groups that makes a page: which of the nearest one, and how many whole ones.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// So many groups are given to their ends; the first of them from or up to where it was given.
    Whole(usize),
    /// The nearest one is larger than a page: from and up to.
    Within(usize, usize),
}

/// What fits a page of `count`: `lengths` are those of the groups, the nearest to the cursor first,
/// and `given` is how many matches of the nearest one lie before where the page begins or, going
/// back, ends.
fn fit(lengths: &[usize], given: Option<usize>, back: bool, count: usize) -> Part {
    let open = |(place, length): (usize, &usize)| match given.filter(|_| place == 0) {
        Some(given) if back => given.min(*length),
        Some(given) => length.saturating_sub(given),
        None => *length,
    };
    let open: Vec<usize> = lengths.iter().enumerate().map(open).collect();
    let mut sum = 0_usize;
    let whole = open.iter().take_while(|open| {
        sum = sum.saturating_add(**open);
        sum <= count
    });
    match (whole.count(), lengths.first(), open.first()) {
        (0, Some(length), Some(open)) => match back {
            // The same parts as on the way there.
            true => Part::Within((open - 1) / count.max(1) * count, *open),
            false => Part::Within(length - open, length - open + count),
        },
        (whole, ..) => Part::Whole(whole),
    }
}

impl Facade {
    /// One page of contained resources, perhaps with others that stand for themselves.
    pub(super) async fn contained_page(
        &self,
        containers: &[Query],
        alone: &Alone,
        total: Total,
        bounds: Bounds,
    ) -> Result<Page, Error> {
        let mut queries = containers.to_vec();
        let Some(first) = queries.first() else { return Ok(none()) };
        let count = first.count;
        let turn = first.cursor.as_deref().map_or(Some(Turn::default()), Turn::read);
        let turn = turn.ok_or(lumbar_store::Error::Cursor)?;
        if count == 0 {
            let total = Some(self.count_contained(containers, alone, bounds).await?);
            return Ok(Page { total, ..none() });
        }
        let mut wanted = count;
        loop {
            for query in &mut queries {
                query.cursor.clone_from(&turn.cursor);
                query.count = wanted;
            }
            let how = if total == Total::Estimate { total } else { Total::None };
            let page = self.resources.page(&queries, how, bounds).await?;
            let mut groups = self.groups(&page.matches, alone).await?;
            if turn.back {
                groups.reverse();
            }
            let lengths: Vec<usize> = groups.iter().map(|group| group.matches.len()).collect();
            let nearest = groups.first().map(|group| group.name.clone()).unwrap_or_default();
            let given = turn.within.as_ref().filter(|(name, _)| *name == nearest);
            let given = given.map(|(_, given)| *given);
            let part = fit(&lengths, given, turn.back, count);
            if let Part::Whole(whole) = part
                && whole < groups.len()
            {
                // The store says where the page ends only when it ends there.
                wanted = whole;
                continue;
            }
            let is_all = turn.cursor.is_none()
                && given.is_none()
                && page.next.is_none()
                && matches!(part, Part::Whole(_));
            let number = match (turn.total, total) {
                _ if is_all => Some(lengths.iter().sum::<usize>() as u64),
                (Some(total), _) => Some(total),
                (None, Total::Accurate) => {
                    Some(self.count_contained(containers, alone, bounds).await?)
                }
                (None, Total::Estimate) => page.total,
                (None, Total::None) => None,
            };
            return Ok(cut(&turn, page, groups, given, &part, (count, number)));
        }
    }

    /// The number of all matches.
    async fn count_contained(
        &self,
        containers: &[Query],
        alone: &Alone,
        bounds: Bounds,
    ) -> Result<u64, Error> {
        let mut queries = containers.to_vec();
        for query in &mut queries {
            query.cursor = None;
            query.count = self.policy.limits.search.max_count.max(1);
        }
        let (mut total, mut looked) = (0, 0);
        loop {
            let page = self.resources.page(&queries, Total::None, bounds).await?;
            let groups = self.groups(&page.matches, alone).await?;
            total += groups.iter().map(|group| group.matches.len() as u64).sum::<u64>();
            looked += page.matches.len().max(MIN_COUNTED);
            if page.next.is_none() {
                return Ok(total);
            }
            if looked >= MAX_COUNTED {
                let text = "Too many resources would be looked into to count the matches that they contain; leave _total, _count=0 and _summary=count out, or ask with _containedType=container.";
                return Err(refused("_containedType", IssueType::TooCostly, text.to_owned()));
            }
            for query in &mut queries {
                query.cursor.clone_from(&page.next);
            }
            tokio::task::yield_now().await;
        }
    }

    /// The matches in each of what was found.
    async fn groups(&self, found: &[Stored], alone: &Alone) -> Result<Vec<Group>, Error> {
        let (definitions, query) = (self.definitions(), &alone.query);
        let mut bodies = Vec::with_capacity(found.len());
        for stored in found {
            let body = stored.body.as_ref().map_or(&b"null"[..], |body| body.as_bytes());
            bodies.push(Json::parse(body).map_err(|error| {
                tracing::error!(%error, "a stored resource cannot be read");
                Error::Internal
            })?);
        }
        let links = self.links(found, &bodies, alone).await?;
        let mut groups = Vec::with_capacity(found.len());
        for (stored, body) in found.iter().zip(&bodies) {
            let name = format!("{}/{}", stored.resource_type, stored.id);
            let linked = |place| links.holds(&name, Some(place));
            let mut matches = Vec::new();
            if alone.which == Contained::Both && stored.resource_type == query.resource_type {
                let holds = if is_linked(&query.condition) {
                    links.holds(&name, None)
                } else {
                    let rows = search_language::index(&definitions, &self.base, body);
                    let (id, last_updated) = (stored.id.as_str(), stored.last_updated);
                    let candidate = Candidate { id, last_updated, rows: &rows };
                    search_language::matches(&query.condition, candidate, &|_, _| false)
                };
                matches.extend(holds.then(|| stored.clone()));
            }
            let (of, condition) = (query.resource_type.as_str(), &query.condition);
            let base = self.base.as_str();
            for inner in search_language::holding(&definitions, base, body, of, condition, &linked)
            {
                matches.push(Stored {
                    resource_type: of.to_owned(),
                    // No id has a '#', so nothing takes it for a resource that stands for itself.
                    id: format!("{name}#{}", inner.str_at(&["id"]).unwrap_or_default()),
                    body: Some(Arc::from(inner.to_string())),
                    ..stored.clone()
                });
            }
            groups.push(Group { name, matches });
        }
        Ok(groups)
    }

    /// Where a condition holds that leads to other resources: asked of the store by place.
    async fn links(
        &self,
        found: &[Stored],
        bodies: &[Json],
        alone: &Alone,
    ) -> Result<Links, Error> {
        let mut links = Links::default();
        let Alone { query, which } = alone;
        let (of, condition) = (query.resource_type.as_str(), &query.condition);
        if !is_linked(condition) {
            return Ok(links);
        }
        let mut by_type: BTreeMap<&str, (Vec<String>, usize)> = BTreeMap::new();
        for (stored, body) in found.iter().zip(bodies) {
            let (ids, most) = by_type.entry(&stored.resource_type).or_default();
            ids.push(stored.id.clone());
            let inner = body.list("contained").iter();
            let inner = inner.filter(|inner| inner.str_at(&["resourceType"]) == Some(of));
            *most = (*most).max(inner.count());
        }
        for (name, (ids, most)) in by_type {
            let places = within(of, condition).unwrap_or_default();
            let mut asked: Vec<_> = places.into_iter().take(most).enumerate().collect();
            let mut wanted: Vec<(Option<usize>, Condition)> =
                asked.drain(..).map(|(place, condition)| (Some(place), condition)).collect();
            if *which == Contained::Both && name == of {
                wanted.push((None, condition.clone()));
            }
            for (place, condition) in wanted {
                let query = Query {
                    resource_type: name.to_owned(),
                    condition: Condition::All(vec![Condition::Id(ids.clone()), condition]),
                    sort: Vec::new(),
                    count: ids.len(),
                    cursor: None,
                    total: false,
                };
                let holding = self.resources.search(&query).await?.matches.into_iter();
                links.0.extend(holding.map(|stored| (format!("{name}/{}", stored.id), place)));
            }
        }
        Ok(links)
    }
}

/// Containers and the places in them where a condition holds; no place: for the container itself.
#[derive(Default)]
struct Links(HashSet<(String, Option<usize>)>);

impl Links {
    fn holds(&self, name: &str, place: Option<usize>) -> bool {
        self.0.contains(&(name.to_owned(), place))
    }
}

impl Alone {
    /// What a query asks for.
    pub(super) fn new(query: Query, which: Contained) -> Alone {
        Alone { query, which }
    }
}

fn none() -> Page {
    Page { matches: Vec::new(), previous: None, next: None, total: None }
}

/// The page that is a part of the groups, which stand with the nearest to the cursor first.
fn cut(
    turn: &Turn,
    page: Page,
    mut groups: Vec<Group>,
    given: Option<usize>,
    part: &Part,
    (count, total): (usize, Option<u64>),
) -> Page {
    let name = groups.first().map(|group| group.name.clone()).unwrap_or_default();
    let length = groups.first().map_or(0, |group| group.matches.len());
    let beyond = |cursor: Option<String>, back| Turn { cursor, back, within: None, total };
    let at = |given: usize| Turn { within: Some((name.clone(), given)), total, ..turn.clone() };
    let other = |cursor: Option<String>, back| cursor.map(|cursor| beyond(Some(cursor), back));
    let (from, to) = match (part, given) {
        (Part::Within(from, to), _) => (*from, (*to).min(length)),
        (Part::Whole(_), Some(given)) if turn.back => (0, given.min(length)),
        (Part::Whole(_), Some(given)) => (given.min(length), length),
        (Part::Whole(_), None) => (0, length),
    };
    let is_within = matches!(part, Part::Within(..));
    let (previous, next) = if turn.back {
        let previous = match is_within && from > 0 {
            true => Some(at(from)),
            false => other(page.previous, true),
        };
        let next = match to < length {
            true => Some(at((to + count).min(length))),
            false => other(page.next, false),
        };
        (previous, next)
    } else {
        let previous = match from > 0 {
            true => Some(at(from.saturating_sub(count))),
            false => other(page.previous, true),
        };
        let next = match is_within && to < length {
            true => Some(at(to)),
            false => other(page.next, false),
        };
        (previous, next)
    };
    if is_within {
        groups.truncate(1);
    }
    if let Some(nearest) = groups.first_mut() {
        nearest.matches.truncate(to);
        nearest.matches.drain(..from);
    }
    if turn.back {
        groups.reverse();
    }
    Page {
        matches: groups.into_iter().flat_map(|group| group.matches).collect(),
        previous: previous.and_then(|turn| turn.write()),
        next: next.and_then(|turn| turn.write()),
        total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_between_containers_or_within_a_large_one() {
        for (lengths, given, back, count, part) in [
            (&[][..], None, false, 2, Part::Whole(0)),
            (&[1, 1], None, false, 2, Part::Whole(2)),
            (&[1, 2], None, false, 2, Part::Whole(1)),
            (&[0, 0, 3], None, false, 2, Part::Whole(2)),
            (&[5, 1], None, false, 2, Part::Within(0, 2)),
            (&[5, 1], Some(2), false, 2, Part::Within(2, 4)),
            (&[5, 1], Some(4), false, 2, Part::Whole(2)),
            (&[5, 2], Some(4), false, 2, Part::Whole(1)),
            (&[5, 1], Some(9), false, 2, Part::Whole(2)),
            (&[5, 1], None, true, 2, Part::Within(4, 5)),
            (&[5, 1], Some(4), true, 2, Part::Within(2, 4)),
            (&[5, 1], Some(2), true, 2, Part::Whole(1)),
            (&[5, 1], Some(1), true, 2, Part::Whole(2)),
        ] {
            assert_eq!(fit(lengths, given, back, count), part, "{lengths:?} {given:?} {back}");
        }
    }

    #[test]
    fn a_turn_is_read_as_it_was_written() {
        let cursor = Some("0af3".to_owned());
        let within = Some(("Observation/o.1".to_owned(), 4));
        for turn in [
            Turn { cursor: cursor.clone(), ..Turn::default() },
            Turn { cursor: cursor.clone(), back: true, ..Turn::default() },
            Turn { within: within.clone(), ..Turn::default() },
            Turn { cursor, back: true, within, total: Some(7) },
        ] {
            assert_eq!(Turn::read(&turn.write().unwrap()), Some(turn));
        }
        assert_eq!(Turn::default().write(), None);
        for wrong in
            ["a~", "a~next", "a~next~x~~", "a~next~1~o~2~3", "a~down~~~", "~previous~-1~o~"]
        {
            assert_eq!(Turn::read(wrong), None, "{wrong}");
        }
    }
}
