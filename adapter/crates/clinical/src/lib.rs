#![doc = include_str!("../README.md")]

pub mod activation;
pub mod answers;
pub mod approval;
pub mod change;
pub mod derivation;
pub mod derive;
pub mod diary;
pub mod discrepancy;
pub mod form;
pub mod id;
pub mod instrument;
pub mod plan;
pub mod provenance;
pub mod run_chart;
pub mod schedule;
pub mod score;
pub mod triage;
pub mod value_set;
pub mod vectors;

pub use answers::{Answers, Refused};
pub use approval::Approval;
pub use instrument::{Instrument, OptionSets};
pub use plan::Pathway;
pub use schedule::Schedule;
pub use score::{Scored, Status};
pub use value_set::ValueSets;
