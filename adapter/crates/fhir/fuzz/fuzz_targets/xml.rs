//! `fuzz.sh xml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lumbar_fhir_fuzz::targets::xml(data));
