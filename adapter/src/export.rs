//! What goes out whole: the list of bookings as CSV, resources as NDJSON.

use lumbar_fhir::Json;
use lumbar_translate::csv_list::{self, Settings};

use crate::config::{ID_BASE, ZONE};
use crate::facade::{Error, Facade};
use crate::security::Caller;

/// The canonical CSV list of the bookings that follow from referrals, earliest first.
///
/// # Errors
/// The store cannot be read.
pub async fn appointment_list(facade: &Facade) -> Result<String, Error> {
    let settings = Settings { base: ID_BASE, source: "lumbar", zone: ZONE, spreadsheet: false };
    let parameters = [("based-on:missing", "false"), ("_sort", "date"), ("_count", "500")];
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let (page, next) = facade.scan(&Caller::System, "Appointment", &parameters, cursor).await?;
        for text in page {
            let appointment = Json::parse(text.as_bytes()).map_err(|_| Error::Internal)?;
            let mut found = Vec::new();
            for need in csv_list::needs(&appointment) {
                found.extend(facade.fetch(&Caller::System, &need, 1).await?);
            }
            rows.extend(csv_list::booking(&appointment, &found, &settings));
        }
        match next {
            Some(_) => cursor = next,
            None => return Ok(csv_list::write(&rows, &settings)),
        }
    }
}

/// Calls `line` with every resource of every type, one JSON text each, last updated at or after
/// `since` when that is given.
///
/// # Errors
/// The store cannot be read, or what `line` returns.
pub async fn resources<F>(facade: &Facade, since: Option<&str>, mut line: F) -> Result<(), Error>
where
    F: FnMut(&str, &str) -> Result<(), Error>,
{
    let since = since.map(|since| format!("ge{since}"));
    let mut parameters = vec![("_count", "1000")];
    if let Some(since) = &since {
        parameters.push(("_lastUpdated", since));
    }
    let definitions = facade.definitions();
    let types: Vec<&str> = definitions.resource_types().collect();
    for of in types {
        let mut cursor = None;
        loop {
            let (page, next) = facade.scan(&Caller::System, of, &parameters, cursor).await?;
            for text in page {
                line(of, &text)?;
            }
            match next {
                Some(_) => cursor = next,
                None => break,
            }
        }
    }
    Ok(())
}
