//! The job that sends the CSV list of appointments.

use super::Ending;
use crate::app::App;
use crate::config::Destination;
use crate::delivery::{Web, write_whole};
use crate::export::appointment_list;

/// Sends the whole list anew: each row is the whole state of a booking, so the last list holds.
pub async fn list(app: &App, web: &Web) -> Ending {
    let Some(destination) = &app.settings.booking_list else { return Ending::Done };
    let csv = match appointment_list(&app.facade).await {
        Ok(csv) => csv,
        Err(error) => return error.into(),
    };
    match destination {
        Destination::File(path) => match write_whole(path, csv.as_bytes()) {
            Ok(()) => Ending::Done,
            Err(error) => Ending::Later(format!("The list's file cannot be written: {error}")),
        },
        Destination::Http(url) => {
            let headers = [("Content-Type", "text/csv; charset=utf-8".to_owned())];
            match web.post(url, &headers, csv).await {
                Ok(answer) if (200..300).contains(&answer.status) => Ending::Done,
                Ok(answer) if matches!(answer.status, 408 | 429 | 500..) => {
                    Ending::Later(format!("The list's receiver answered {}.", answer.status))
                }
                Ok(answer) => {
                    Ending::GiveUp(format!("The list's receiver answered {}.", answer.status))
                }
                Err(reason) => Ending::Later(reason),
            }
        }
    }
}
