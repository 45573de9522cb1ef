//! Small numbers for resource types and search parameters, so that index rows stay short.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use crate::Error;
use crate::dialect::{Session, Value};

/// The names known so far. Numbers are given once and never change.
#[derive(Debug, Default)]
pub(crate) struct Names {
    types: RwLock<HashMap<String, Type>>,
    /// Codes of parameters, by type, by which not all resources are indexed yet.
    unindexed: RwLock<HashMap<String, BTreeSet<String>>>,
}

#[derive(Debug, Default)]
struct Type {
    id: i64,
    parameters: HashMap<String, i64>,
}

/// Names that a transaction has added; they hold for others once it is committed.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    types: HashMap<String, Type>,
}

impl Names {
    fn resource_type(&self, name: &str) -> Option<i64> {
        let types = self.types.read().unwrap_or_else(PoisonError::into_inner);
        types.get(name).map(|found| found.id)
    }

    fn parameter(&self, resource_type: &str, code: &str) -> Option<i64> {
        let types = self.types.read().unwrap_or_else(PoisonError::into_inner);
        types.get(resource_type)?.parameters.get(code).copied()
    }

    /// Says by which parameters not all resources are indexed.
    pub(crate) fn set_unindexed(&self, unindexed: HashMap<String, BTreeSet<String>>) {
        *self.unindexed.write().unwrap_or_else(PoisonError::into_inner) = unindexed;
    }

    /// Fails when a search goes by a parameter by which not all resources are indexed: it would
    /// leave out matches without a word.
    pub(crate) fn check_indexed<'a>(
        &self,
        wanted: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Error> {
        let unindexed = self.unindexed.read().unwrap_or_else(PoisonError::into_inner);
        if unindexed.is_empty() {
            return Ok(());
        }
        for (resource_type, code) in wanted {
            // `code:text` and the like hold further values of the parameter.
            let code = code.split(':').next().unwrap_or_default();
            if unindexed.get(resource_type).is_some_and(|codes| codes.contains(code)) {
                let (resource_type, code) = (resource_type.to_owned(), code.to_owned());
                return Err(Error::NotIndexed { resource_type, code });
            }
        }
        Ok(())
    }

    /// These names together with those a transaction has added.
    pub(crate) fn known<'a>(&'a self, fresh: &'a Fresh) -> Known<'a> {
        Known { names: self, fresh }
    }

    /// Reads all names into `fresh` when one of those that are wanted is not known here: another
    /// process may have added it. An empty code stands for the type alone.
    pub(crate) async fn learn(
        &self,
        session: &mut Session<'_>,
        fresh: &mut Fresh,
        wanted: &BTreeSet<(&str, &str)>,
    ) -> Result<(), Error> {
        let known = |&(name, code): &(&str, &str)| match code {
            "" => self.known(fresh).resource_type(name).is_some(),
            code => self.known(fresh).parameter(name, code).is_some(),
        };
        if wanted.iter().all(known) {
            return Ok(());
        }
        let sql = "SELECT t.name, t.type_id, coalesce(p.code, ''), coalesce(p.parameter_id, 0) \
                   FROM resource_type t LEFT JOIN parameter p ON p.type_id = t.type_id";
        for row in session.fetch(sql, Vec::new()).await? {
            fresh.add(row.text(0)?, row.int(1)?, row.text(2)?, row.int(3)?);
        }
        Ok(())
    }

    /// Makes the names of a committed transaction known.
    pub(crate) fn publish(&self, fresh: Fresh) {
        if fresh.types.is_empty() {
            return;
        }
        let mut types = self.types.write().unwrap_or_else(PoisonError::into_inner);
        for (name, found) in fresh.types {
            let known = types.entry(name).or_default();
            known.id = found.id;
            known.parameters.extend(found.parameters);
        }
    }

    /// The number of a type, given now if need be.
    pub(crate) async fn intern_type(
        &self,
        session: &mut Session<'_>,
        fresh: &mut Fresh,
        name: &str,
    ) -> Result<i64, Error> {
        if let Some(id) = self.known(fresh).resource_type(name) {
            return Ok(id);
        }
        // The update without effect makes RETURNING give a row that was already there.
        let sql = "INSERT INTO resource_type (name) VALUES ($1) \
                   ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING type_id";
        let id = only(session, sql, vec![name.into()]).await?;
        fresh.add(name, id, "", 0);
        Ok(id)
    }

    /// The number of a search parameter, given now if need be.
    pub(crate) async fn intern_parameter(
        &self,
        session: &mut Session<'_>,
        fresh: &mut Fresh,
        resource_type: &str,
        code: &str,
    ) -> Result<i64, Error> {
        if let Some(id) = self.known(fresh).parameter(resource_type, code) {
            return Ok(id);
        }
        let type_id = self.intern_type(session, fresh, resource_type).await?;
        let sql = "INSERT INTO parameter (type_id, code) VALUES ($1, $2) \
                   ON CONFLICT (type_id, code) DO UPDATE SET code = excluded.code \
                   RETURNING parameter_id";
        let id = only(session, sql, vec![type_id.into(), code.into()]).await?;
        fresh.add(resource_type, type_id, code, id);
        Ok(id)
    }
}

/// Names as one transaction sees them.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    names: &'a Names,
    fresh: &'a Fresh,
}

impl Known<'_> {
    /// The number of a type; `None` when nothing of it was ever stored.
    pub(crate) fn resource_type(self, name: &str) -> Option<i64> {
        self.names.resource_type(name).or_else(|| Some(self.fresh.types.get(name)?.id))
    }

    /// The number of a search parameter; `None` when nothing was ever indexed under it.
    pub(crate) fn parameter(self, resource_type: &str, code: &str) -> Option<i64> {
        let fresh = || self.fresh.types.get(resource_type)?.parameters.get(code).copied();
        self.names.parameter(resource_type, code).or_else(fresh)
    }
}

impl Fresh {
    fn add(&mut self, name: &str, id: i64, code: &str, parameter: i64) {
        let known = self.types.entry(name.to_owned()).or_default();
        known.id = id;
        if !code.is_empty() {
            known.parameters.insert(code.to_owned(), parameter);
        }
    }
}

/// The one number that a statement gives.
pub(crate) async fn only(
    session: &mut Session<'_>,
    sql: &str,
    values: Vec<Value>,
) -> Result<i64, Error> {
    let rows = session.fetch(sql, values).await?;
    rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)
}
