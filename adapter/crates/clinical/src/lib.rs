#![doc = include_str!("../README.md")]

pub mod answers;
pub mod approval;
pub mod derive;
pub mod id;
pub mod plan;
pub mod score;
pub mod table;

pub use answers::{Answers, Refused};
pub use approval::Approval;
pub use plan::Pathway;
pub use score::{Scored, Status};
pub use table::ScoringTable;
