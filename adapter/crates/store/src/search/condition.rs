//! Conditions as SQL, in two forms: that a condition holds for a given row ([`Builder::holds`]),
//! and the rows for which it holds ([`Builder::rows`]), where an index can give them.

use std::collections::BTreeSet;

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::search::{Bound, Condition, Pattern, key};

use crate::Error;
use crate::dialect::{Dialect, Value};
use crate::index::{KEPT, fit};
use crate::names::Known;
use crate::resources::clean;
use crate::terms::Shape;

/// Greatest depth of conditions within conditions.
const DEPTH: usize = 12;

/// Greatest number of conditions in one statement: databases bound the size of expressions.
const NODES: usize = 600;

/// Greatest number of bound values, below the limits of both databases.
const VALUES: usize = 30_000;

/// The row that a condition is about.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) resource_type: &'a str,
    pub(super) type_id: i64,
    /// Number of its alias: `r0`, `r1`, ….
    pub(super) alias: usize,
}

/// Builds one statement.
pub(super) struct Builder<'a> {
    known: Known<'a>,
    dialect: Dialect,
    values: Vec<Value>,
    aliases: usize,
    nodes: usize,
}

/// Collects the types and parameters that a condition names; refuses one that is too deep.
pub(super) fn names<'q>(
    resource_type: &'q str,
    condition: &'q Condition,
    depth: usize,
    found: &mut BTreeSet<(&'q str, &'q str)>,
) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(Error::TooComplex);
    }
    found.insert((resource_type, ""));
    match condition {
        Condition::All(conditions) | Condition::Any(conditions) => {
            for condition in conditions {
                names(resource_type, condition, depth + 1, found)?;
            }
        }
        Condition::Not(condition) => names(resource_type, condition, depth + 1, found)?,
        Condition::Id(_) | Condition::LastUpdated(..) => {}
        Condition::Key(code, ..)
        | Condition::KeyLike(code, _)
        | Condition::KeyContains(code, _)
        | Condition::KeyEnds(code, _)
        | Condition::Date(code, ..)
        | Condition::Number(code, ..)
        | Condition::Present(code) => {
            found.insert((resource_type, code));
        }
        Condition::Refers(code, target, condition) => {
            found.insert((resource_type, code));
            names(target, condition, depth + 1, found)?;
        }
        Condition::ReferredBy(source, code, condition) => {
            found.insert((source, code));
            names(source, condition, depth + 1, found)?;
        }
    }
    Ok(())
}

/// Whether [`Builder::rows`] gives just the rows for which the condition holds, not more.
pub(super) fn is_exact(condition: &Condition) -> bool {
    match condition {
        Condition::All(conditions) => matches!(conditions.as_slice(), [one] if is_exact(one)),
        Condition::Any(conditions) => conditions.iter().all(is_exact),
        _ => true,
    }
}

/// How promising a condition is as the one that gives the rows, without asking the database;
/// the least is best, `None` is useless.
fn rank(condition: &Condition) -> Option<u8> {
    match condition {
        Condition::Id(_) => Some(0),
        Condition::Key(_, low, high) if low == high && *low != Bound::Open => Some(1),
        Condition::Refers(_, _, condition) | Condition::ReferredBy(_, _, condition) => {
            rank(condition).map(|rank| rank + 2)
        }
        Condition::Key(_, low, high) => (*low != Bound::Open && *high != Bound::Open).then_some(3),
        Condition::KeyLike(..) => Some(3),
        Condition::Date(_, start, end) => bounded(start, end).then_some(4),
        Condition::Number(_, low, high, _) => bounded(low, high).then_some(4),
        Condition::LastUpdated(low, high) => {
            (*low != Bound::Open || *high != Bound::Open).then_some(4)
        }
        Condition::Any(conditions) => {
            conditions.iter().map(rank).try_fold(0, |worst, rank| Some(worst.max(rank?)))
        }
        Condition::All(conditions) => conditions.iter().filter_map(rank).min(),
        Condition::Not(_)
        | Condition::KeyContains(..)
        | Condition::KeyEnds(..)
        | Condition::Present(_) => None,
    }
}

fn bounded<T: PartialEq>(low: &[Bound<T>; 2], high: &[Bound<T>; 2]) -> bool {
    low.iter().chain(high).any(|bound| *bound != Bound::Open)
}

const NEVER: &str = "1 = 0";

impl<'a> Builder<'a> {
    pub(super) fn new(known: Known<'a>, dialect: Dialect) -> Builder<'a> {
        Builder { known, dialect, values: Vec::new(), aliases: 0, nodes: 0 }
    }

    /// Binds a value and gives its placeholder.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// The bound values of the finished statement.
    pub(super) fn finish(self) -> Result<Vec<Value>, Error> {
        if self.values.len() > VALUES { Err(Error::TooComplex) } else { Ok(self.values) }
    }

    fn count(&mut self) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > NODES || self.values.len() > VALUES {
            return Err(Error::TooComplex);
        }
        Ok(())
    }

    fn alias(&mut self) -> usize {
        self.aliases += 1;
        self.aliases
    }

    fn list(&mut self, values: impl Iterator<Item = Value>) -> String {
        let list: Vec<String> = values.map(|value| self.bind(value)).collect();
        list.join(",")
    }

    /// `AND column … bound …` for the bounds that are not open.
    fn between<T, V: Into<Value>>(
        &mut self,
        column: &str,
        low: &Bound<T>,
        high: &Bound<T>,
        value: impl Fn(&T) -> V,
    ) -> String {
        let mut sql = String::new();
        for (bound, included, excluded) in [(low, ">=", ">"), (high, "<=", "<")] {
            let (operator, bound) = match bound {
                Bound::Open => continue,
                Bound::Included(bound) => (included, bound),
                Bound::Excluded(bound) => (excluded, bound),
            };
            let bound = self.bind(value(bound));
            sql += &format!(" AND {column} {operator} {bound}");
        }
        sql
    }

    /// That a condition holds for the subject.
    pub(super) fn holds(
        &mut self,
        condition: &Condition,
        subject: Subject<'_>,
    ) -> Result<String, Error> {
        self.count()?;
        let alias = subject.alias;
        Ok(match condition {
            Condition::All(conditions) => self.join(conditions, subject, " AND ", "1 = 1")?,
            Condition::Any(conditions) => match self.keys(conditions, subject) {
                Some((parameter, filter)) => self.exists(Shape::Key, parameter, alias, &filter),
                None => self.join(conditions, subject, " OR ", NEVER)?,
            },
            Condition::Not(condition) => format!("NOT {}", self.holds(condition, subject)?),
            Condition::Id(ids) if ids.is_empty() => NEVER.to_owned(),
            Condition::Id(ids) => {
                let list = self.list(ids.iter().map(|id| clean(id)));
                format!("r{alias}.id IN ({list})")
            }
            Condition::LastUpdated(low, high) => {
                let column = format!("r{alias}.last_updated");
                format!("(1 = 1{})", self.between(&column, low, high, |&at| at))
            }
            Condition::Key(code, ..)
            | Condition::KeyLike(code, _)
            | Condition::KeyContains(code, _)
            | Condition::KeyEnds(code, _)
            | Condition::Date(code, ..)
            | Condition::Number(code, ..) => match self.parameter(subject, code) {
                Some(parameter) => {
                    let dialect = self.dialect;
                    let (shape, filter) = self.value(condition, |column| dialect.part("v", column));
                    self.exists(shape, parameter, alias, &filter)
                }
                None => NEVER.to_owned(),
            },
            Condition::Present(code) => match self.parameter(subject, code) {
                Some(parameter) => {
                    let any = Shape::ALL.map(|shape| self.exists(shape, parameter, alias, ""));
                    format!("({})", any.join(" OR "))
                }
                None => NEVER.to_owned(),
            },
            Condition::Refers(code, target, condition) => {
                let (Some(parameter), Some(type_id)) =
                    (self.parameter(subject, code), self.known.resource_type(target))
                else {
                    return Ok(NEVER.to_owned());
                };
                let to = Subject { resource_type: target, type_id, alias: self.alias() };
                let n = to.alias;
                let (from, own) = self.values(Shape::Key, parameter, alias, &format!("k{n}"));
                let link = self.link(n, to);
                let rest = self.holds(condition, to)?;
                let no_join = self.dialect.no_join();
                format!(
                    "EXISTS (SELECT 1 FROM {from} CROSS JOIN resource r{n} \
                     WHERE {own} AND {link} AND {rest}{no_join})"
                )
            }
            Condition::ReferredBy(source, code, condition) => {
                let (Some(parameter), Some(type_id)) =
                    (self.known.parameter(source, code), self.known.resource_type(source))
                else {
                    return Ok(NEVER.to_owned());
                };
                let from = Subject { resource_type: source, type_id, alias: self.alias() };
                let n = from.alias;
                let parameter = self.bind(parameter);
                let prefix = self.bind(clean(&format!("{}/", subject.resource_type)));
                let rest = self.holds(condition, from)?;
                format!(
                    "EXISTS (SELECT 1 FROM key_value k{n} CROSS JOIN resource r{n} \
                     WHERE k{n}.parameter_id = {parameter} \
                     AND k{n}.value = {prefix} || r{alias}.id AND r{n}.row_id = k{n}.row_id \
                     AND r{n}.body IS NOT NULL AND {rest}{no_join})",
                    no_join = self.dialect.no_join()
                )
            }
        })
    }

    /// A statement that gives the row ids for which a condition holds, perhaps with others (see
    /// [`is_exact`]) and more than once; `None` when no index can.
    pub(super) fn rows(
        &mut self,
        condition: &Condition,
        subject: Subject<'_>,
    ) -> Result<Option<String>, Error> {
        self.count()?;
        if rank(condition).is_none() {
            return Ok(None);
        }
        let nothing = || Some("SELECT row_id FROM resource WHERE 1 = 0".to_owned());
        Ok(match condition {
            Condition::All(conditions) => {
                let best =
                    conditions.iter().filter(|one| rank(one).is_some()).min_by_key(|one| rank(one));
                match best {
                    Some(best) => self.rows(best, subject)?,
                    None => None,
                }
            }
            Condition::Any(conditions) => match self.keys(conditions, subject) {
                Some((parameter, filter)) => Some(self.having(Shape::Key, parameter, &filter)),
                None => {
                    let mut parts = Vec::new();
                    for condition in conditions {
                        let Some(rows) = self.rows(condition, subject)? else { return Ok(None) };
                        parts.push(rows);
                    }
                    if parts.is_empty() { nothing() } else { Some(parts.join(" UNION ALL ")) }
                }
            },
            Condition::Id(_) | Condition::LastUpdated(..) => {
                let to = Subject { alias: self.alias(), ..subject };
                let n = to.alias;
                let holds = self.holds(condition, to)?;
                let type_id = self.bind(subject.type_id);
                Some(format!(
                    "SELECT r{n}.row_id FROM resource r{n} \
                     WHERE r{n}.type_id = {type_id} AND {holds}"
                ))
            }
            Condition::Key(code, ..)
            | Condition::KeyLike(code, _)
            | Condition::Date(code, ..)
            | Condition::Number(code, ..) => match self.parameter(subject, code) {
                Some(parameter) => {
                    let (shape, filter) = self.value(condition, |column| format!("v.{column}"));
                    Some(self.having(shape, parameter, &filter))
                }
                None => nothing(),
            },
            Condition::Refers(code, target, condition) => {
                let (Some(parameter), Some(type_id)) =
                    (self.parameter(subject, code), self.known.resource_type(target))
                else {
                    return Ok(nothing());
                };
                let to = Subject { resource_type: target, type_id, alias: self.alias() };
                let n = to.alias;
                let Some(rows) = self.rows(condition, to)? else { return Ok(None) };
                let parameter = self.bind(parameter);
                let prefix = self.bind(clean(&format!("{target}/")));
                let rest = self.holds(condition, to)?;
                Some(format!(
                    "SELECT k{n}.row_id FROM resource r{n} CROSS JOIN key_value k{n} \
                     WHERE r{n}.row_id IN ({rows}) AND r{n}.body IS NOT NULL AND {rest} \
                     AND k{n}.parameter_id = {parameter} AND k{n}.value = {prefix} || r{n}.id"
                ))
            }
            Condition::ReferredBy(source, code, condition) => {
                let (Some(parameter), Some(type_id)) =
                    (self.known.parameter(source, code), self.known.resource_type(source))
                else {
                    return Ok(nothing());
                };
                let from = Subject { resource_type: source, type_id, alias: self.alias() };
                let n = from.alias;
                let Some(rows) = self.rows(condition, from)? else { return Ok(None) };
                let to = Subject { alias: self.alias(), ..subject };
                let rest = self.holds(condition, from)?;
                let (values, own) = self.values(Shape::Key, parameter, n, &format!("k{n}"));
                let link = self.link(n, to);
                Some(format!(
                    "SELECT r{m}.row_id FROM resource r{n} CROSS JOIN {values} \
                     CROSS JOIN resource r{m} WHERE r{n}.row_id IN ({rows}) \
                     AND r{n}.body IS NOT NULL AND {rest} AND {own} AND {link}",
                    m = to.alias
                ))
            }
            Condition::Not(_)
            | Condition::KeyContains(..)
            | Condition::KeyEnds(..)
            | Condition::Present(_) => None,
        })
    }

    /// What leads from the references `k{key}` to their targets.
    fn link(&mut self, key: usize, to: Subject<'_>) -> String {
        let Subject { resource_type, type_id, alias } = to;
        // '0' comes right after '/'.
        let first = self.bind(clean(&format!("{resource_type}/")));
        let last = self.bind(clean(&format!("{resource_type}0")));
        let type_id = self.bind(type_id);
        let id = resource_type.chars().count() + 2;
        format!(
            "k{key}.value >= {first} AND k{key}.value < {last} \
             AND r{alias}.type_id = {type_id} AND r{alias}.id = substr(k{key}.value, {id}) \
             AND r{alias}.body IS NOT NULL"
        )
    }

    /// The filter of a key condition on the rows of an alias of `key_value`.
    pub(super) fn key(
        &mut self,
        alias: &str,
        condition: &Condition,
        subject: Subject<'_>,
    ) -> Result<String, Error> {
        let Condition::Key(code, low, high) = condition else { return Ok(NEVER.to_owned()) };
        let Some(parameter) = self.parameter(subject, code) else { return Ok(NEVER.to_owned()) };
        let parameter = self.bind(parameter);
        let (number, value) = (format!("{alias}.parameter_id"), format!("{alias}.value"));
        Ok(format!("{number} = {parameter}{}", self.key_between(&value, low, high)))
    }

    fn key_between(&mut self, column: &str, low: &Bound<String>, high: &Bound<String>) -> String {
        match (low, high) {
            (Bound::Included(low), Bound::Included(high)) if low == high => {
                let key = self.bind(&*fit(low));
                format!(" AND {column} = {key}")
            }
            // Stored keys are in order up to where a long one was cut.
            _ => {
                let bound = |bound: &Bound<String>, end: &str| match bound {
                    Bound::Included(key) | Bound::Excluded(key) if key.len() > KEPT => {
                        Some(format!("{}{end}", &key[..key.floor_char_boundary(KEPT)]))
                    }
                    _ => None,
                };
                let (cut, beyond) = (bound(low, ""), bound(high, "\u{10ffff}"));
                let low = cut.map_or_else(|| low.clone(), Bound::Included);
                let high = beyond.map_or_else(|| high.clone(), Bound::Excluded);
                self.between(column, &low, &high, |key| clean(key))
            }
        }
    }

    /// ` AND …` for a text column that must be one of the texts.
    fn like(&mut self, column: &str, pattern: &Pattern) -> String {
        let (begin, rest) = match pattern {
            Pattern::Equal(text) => {
                let text = self.bind(&*fit(text));
                return format!(" AND {column} = {text}");
            }
            Pattern::Begins(begin) => (begin, None),
            Pattern::Has(begin, rest) | Pattern::Ends(begin, rest) => (begin, Some(rest)),
        };
        let (low, high) = key::beginning_with(begin);
        let mut sql = self.key_between(column, &low, &high);
        if let Some(rest) = rest {
            let after = format!("substr({column}, {})", begin.chars().count() + 1);
            let length = rest.chars().count();
            let rest = self.bind(clean(rest));
            sql += &match pattern {
                Pattern::Ends(..) => {
                    format!(" AND substr({after}, length({after}) - {length} + 1) = {rest}")
                }
                _ => format!(" AND {}({after}, {rest}) > 0", self.dialect.position()),
            };
        }
        sql
    }

    /// The shape of a value condition, and ` AND …` for the values `v`, whose columns `part` names.
    fn value(&mut self, condition: &Condition, part: impl Fn(&str) -> String) -> (Shape, String) {
        match condition {
            Condition::Key(_, low, high) => (Shape::Key, self.key_between("v.value", low, high)),
            Condition::KeyLike(_, pattern) => (Shape::Key, self.like("v.value", pattern)),
            Condition::KeyContains(_, text) => {
                let length = text.chars().count();
                let (text, end) = (self.bind(clean(text)), self.bind("\u{1}"));
                let position = self.dialect.position();
                let (at, end) =
                    (format!("{position}(v.value, {text})"), format!("{position}(v.value, {end})"));
                let inside = format!("{end} = 0 OR {at} + {length} <= {end} + 1");
                (Shape::Key, format!(" AND {at} > 0 AND ({inside})"))
            }
            Condition::KeyEnds(_, text) => {
                let length = text.chars().count();
                let text = self.bind(clean(text));
                let end = format!("substr(v.value, length(v.value) - {length} + 1)");
                (Shape::Key, format!(" AND {end} = {text}"))
            }
            Condition::Date(_, start, end) => {
                (Shape::Date, self.interval(&part, start, end, |&at: &Micros| at))
            }
            Condition::Number(_, low, high, unit) => {
                let mut filter = self.interval(&part, low, high, |&value: &f64| value);
                if let Some(unit) = unit {
                    filter += &self.like(&part("unit"), unit);
                }
                (Shape::Number, filter)
            }
            _ => (Shape::Key, format!(" AND {NEVER}")),
        }
    }

    /// The filter of an interval. No interval ends before it starts, so a limit of one end is a
    /// limit of the other, which keeps the walk through the index short.
    fn interval<T, V: Into<Value>>(
        &mut self,
        part: impl Fn(&str) -> String,
        low: &[Bound<T>; 2],
        high: &[Bound<T>; 2],
        value: impl Fn(&T) -> V,
    ) -> String {
        let (start, end) = (part("low"), part("high"));
        let mut filter = self.between(&start, &low[0], &low[1], &value);
        filter += &self.between(&end, &high[0], &high[1], &value);
        if matches!(low[1], Bound::Open) {
            filter += &self.between(&start, &Bound::Open, &high[1], &value);
        }
        if matches!(high[0], Bound::Open) {
            filter += &self.between(&end, &low[0], &Bound::Open, &value);
        }
        filter
    }

    /// Alternatives that are all single keys of one parameter become one list: the parameter, and
    /// ` AND …` for its values `v`.
    fn keys(&mut self, conditions: &[Condition], subject: Subject<'_>) -> Option<(i64, String)> {
        let single = |condition: &'_ Condition| match condition {
            Condition::Key(code, Bound::Included(low), Bound::Included(high)) if low == high => {
                Some((code.clone(), low.clone()))
            }
            _ => None,
        };
        let keys: Vec<(String, String)> = conditions.iter().map(single).collect::<Option<_>>()?;
        let (code, _) = keys.first()?;
        if keys.iter().any(|(other, _)| other != code) {
            return None;
        }
        let parameter = self.parameter(subject, code)?;
        let list = self.list(keys.iter().map(|(_, key)| Value::from(&*fit(key))));
        Some((parameter, format!(" AND v.value IN ({list})")))
    }

    fn join(
        &mut self,
        conditions: &[Condition],
        subject: Subject<'_>,
        word: &str,
        none: &str,
    ) -> Result<String, Error> {
        if conditions.is_empty() {
            return Ok(none.to_owned());
        }
        let mut parts = Vec::with_capacity(conditions.len());
        for condition in conditions {
            parts.push(self.holds(condition, subject)?);
        }
        Ok(format!("({})", parts.join(word)))
    }

    fn parameter(&self, subject: Subject<'_>, code: &str) -> Option<i64> {
        self.known.parameter(subject.resource_type, code)
    }

    /// The values of a shape that a row `r` has of a parameter, as `alias`: an item of `FROM`, and
    /// what must hold for it.
    pub(super) fn values(
        &mut self,
        shape: Shape,
        parameter: i64,
        row: usize,
        alias: &str,
    ) -> (String, String) {
        match self.dialect {
            Dialect::Sqlite => {
                let path = self.bind(&*shape.path(parameter));
                (format!("jsonb_each(r{row}.terms, {path}) {alias}"), "1 = 1".to_owned())
            }
            Dialect::Postgres => {
                let parameter = self.bind(parameter);
                let own = format!("{alias}.row_id = r{row}.row_id");
                let own = format!("{own} AND {alias}.parameter_id = {parameter}");
                (format!("{} {alias}", shape.table()), own)
            }
        }
    }

    /// That the row has a value for which the filter holds.
    fn exists(&mut self, shape: Shape, parameter: i64, row: usize, filter: &str) -> String {
        let (from, own) = self.values(shape, parameter, row, "v");
        let no_join = self.dialect.no_join();
        format!("EXISTS (SELECT 1 FROM {from} WHERE {own}{filter}{no_join})")
    }

    /// The rows that have a value for which the filter holds.
    fn having(&mut self, shape: Shape, parameter: i64, filter: &str) -> String {
        let (table, parameter) = (shape.table(), self.bind(parameter));
        format!("SELECT v.row_id FROM {table} v WHERE v.parameter_id = {parameter}{filter}")
    }
}
