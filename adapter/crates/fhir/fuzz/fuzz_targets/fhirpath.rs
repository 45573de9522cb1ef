//! `fuzz.sh fhirpath`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lumbar_fhir_fuzz::targets::fhirpath(data));
