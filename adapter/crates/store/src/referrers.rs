//! Who refers to a resource: a look-up of its key among the index rows of all types.
//!
//! Only references that a search parameter indexes are seen.

use crate::dialect::Session;
use crate::resources::{Resources, clean};
use crate::{Error, index};

/// A resource that nothing may refer to when the commit is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreferred {
    /// The key of references to it, `Type/id`.
    pub reference: String,
    /// Type and id of those that may still refer to it, because the commit changes them, too.
    pub except: Vec<(String, String)>,
}

impl Resources {
    /// Type and id of at most `count` resources that have the reference key `reference`; the
    /// order is that of storage within a type.
    pub async fn referrers(
        &self,
        reference: &str,
        count: usize,
    ) -> Result<Vec<(String, String)>, Error> {
        let mut link = self.pool.acquire().await?;
        referrers(&mut link.session(), reference, count).await
    }
}

async fn referrers(
    session: &mut Session<'_>,
    reference: &str,
    count: usize,
) -> Result<Vec<(String, String)>, Error> {
    // One step into the index for each parameter that there is; a CROSS JOIN keeps SQLite from
    // beginning with the values.
    let sql = "SELECT DISTINCT t.name, r.id FROM parameter p CROSS JOIN key_value v \
               CROSS JOIN resource r CROSS JOIN resource_type t \
               WHERE v.parameter_id = p.parameter_id AND v.value = $1 \
               AND r.row_id = v.row_id AND t.type_id = r.type_id LIMIT $2";
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = session.fetch(sql, vec![clean(&index::fit(reference)), count.into()]).await?;
    rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()))).collect()
}

/// Whether nothing refers to it but those that are excepted.
pub(crate) async fn holds(
    session: &mut Session<'_>,
    unreferred: &Unreferred,
) -> Result<bool, Error> {
    let found = referrers(session, &unreferred.reference, unreferred.except.len() + 1).await?;
    Ok(found.iter().all(|referrer| unreferred.except.contains(referrer)))
}
