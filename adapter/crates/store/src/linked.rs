//! Resources that others name, many at once: what `_include` and `_revinclude` ask for.

use std::collections::BTreeSet;

use crate::Error;
use crate::dialect::Value;
use crate::index;
use crate::insert;
use crate::names::Fresh;
use crate::resources::{Resources, Stored, clean, stored};

/// Most keys of one statement.
const KEYS: usize = 4096;

/// A resource as a reference names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Resource type.
    pub resource_type: String,
    /// Logical id.
    pub id: String,
    /// The version that is meant; `None` for the current one.
    pub version: Option<i64>,
}

impl Resources {
    /// What is named, of any types; what is not there or deleted is left out. The order is free.
    pub async fn named(&self, wanted: &[Named]) -> Result<Vec<Stored>, Error> {
        let mut found = Vec::with_capacity(wanted.len());
        for chunk in wanted.chunks(insert::LARGEST) {
            let size = chunk.len().next_power_of_two();
            let mut link = self.pool.acquire().await?;
            let mut session = link.session();
            let sql = format!(
                "WITH wanted (kind, id, version) AS (VALUES {}), \
                 there AS (SELECT w.kind, w.version AS wanted, r.row_id, r.id, r.version, \
                 r.last_updated, r.method, r.body FROM wanted w CROSS JOIN resource_type t \
                 CROSS JOIN resource r \
                 WHERE t.name = w.kind AND r.type_id = t.type_id AND r.id = w.id) \
                 SELECT id, version, last_updated, method, body, kind FROM there \
                 WHERE body IS NOT NULL AND wanted IN (0, version) \
                 UNION ALL SELECT t.id, h.version, h.last_updated, h.method, h.body, t.kind \
                 FROM there t CROSS JOIN history h \
                 WHERE h.row_id = t.row_id AND h.version = t.wanted AND h.body IS NOT NULL",
                session.dialect().tuples(size, 3)
            );
            // Statements of few lengths are prepared once each.
            let last = chunk.last().into_iter().cycle();
            let mut values = Vec::with_capacity(3 * size);
            for (number, name) in chunk.iter().chain(last).take(size).enumerate() {
                // A repeated name finds nothing more.
                let kind = if number < chunk.len() { &*name.resource_type } else { "" };
                values.extend([clean(kind), clean(&name.id), name.version.unwrap_or(0).into()]);
            }
            for row in session.fetch(sql, values).await? {
                found.push(stored(row.text(5)?, &row, 0)?);
            }
        }
        Ok(found)
    }

    /// Resources of a type that have one of the keys in one of the parameters, at most `count`.
    ///
    /// Errors: [`Error::TooCostly`] when they have so many of them that some may be left out.
    pub async fn keyed(
        &self,
        resource_type: &str,
        codes: &[&str],
        keys: &BTreeSet<String>,
        count: usize,
    ) -> Result<Vec<Stored>, Error> {
        let mut link = self.pool.acquire().await?;
        let mut session = link.session();
        let mut fresh = Fresh::default();
        let wanted: BTreeSet<_> = codes.iter().map(|code| (resource_type, *code)).collect();
        self.names.learn(&mut session, &mut fresh, &wanted).await?;
        let known = self.names.known(&fresh);
        let parameters: Vec<i64> =
            codes.iter().filter_map(|code| known.parameter(resource_type, code)).collect();
        let keys: Vec<&String> = keys.iter().collect();
        let mut found: Vec<Stored> = Vec::new();
        let mut seen = BTreeSet::new();
        for chunk in keys.chunks(KEYS).filter(|_| !parameters.is_empty()) {
            let mut values: Vec<Value> = Vec::with_capacity(parameters.len() + chunk.len() + 1);
            let mut list = |new: Vec<Value>| {
                let first = values.len() + 1;
                values.extend(new);
                let list: Vec<String> =
                    (first..=values.len()).map(|number| format!("${number}")).collect();
                list.join(",")
            };
            let of = list(parameters.iter().map(|&parameter| parameter.into()).collect());
            let any = list(chunk.iter().map(|key| (&*index::fit(key)).into()).collect());
            // A resource may be met once for each parameter.
            let most = count.saturating_mul(parameters.len());
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let limit = list(vec![most.into()]);
            let sql = format!(
                "SELECT r.id, r.version, r.last_updated, r.method, r.body, k.times FROM \
                 (SELECT k.row_id, count(*) AS times FROM (SELECT k.row_id FROM key_value k \
                 WHERE k.parameter_id IN ({of}) AND k.value IN ({any}) LIMIT {limit}) k \
                 GROUP BY k.row_id) k \
                 CROSS JOIN resource r WHERE r.row_id = k.row_id ORDER BY r.row_id"
            );
            let mut times = 0;
            for row in session.fetch(sql, values).await? {
                times += row.int(5)?;
                let stored = stored(resource_type, &row, 0)?;
                if stored.body.is_some() && seen.insert(stored.id.clone()) {
                    found.push(stored);
                }
            }
            if times == most && found.len() < count {
                return Err(Error::TooCostly);
            }
        }
        self.names.publish(fresh);
        found.truncate(count);
        Ok(found)
    }
}
