//! The service as a whole: the real router over real databases, and the real binary.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panic")]

mod app;
mod bad_input;
mod browser;
mod bulk;
mod capabilities;
mod clinical_safety;
mod concurrency;
mod conformance;
mod demo;
mod durability;
mod examples;
mod extraction;
mod house;
mod http;
mod lossless;
mod observability;
mod outbox;
mod packages;
mod paging;
mod profiles;
mod program;
mod safety;
mod scoring;
mod search_cases;
mod search_grammar;
mod search_model;
mod search_parameter;
mod subscription;
mod terminology;
mod validate;
mod validation;
mod wording;
