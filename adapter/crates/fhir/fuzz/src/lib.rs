//! Fuzzing of `lumbar-fhir`: <https://llvm.org/docs/LibFuzzer.html>. `fuzz.sh` runs it.

pub mod mutate;
pub mod targets;
