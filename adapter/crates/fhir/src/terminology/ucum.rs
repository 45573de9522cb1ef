//! Units: <https://ucum.org/ucum>, its case sensitive codes.
//!
//! Whether a text is a unit; what it measures is a matter of FHIRPath's quantities.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Deepest nesting of brackets.
const MAX_DEPTH: usize = 16;
/// Longest unit, in bytes.
const MAX_BYTES: usize = 500;

const PREFIXES: [&str; 28] = [
    "Q", "R", "Y", "Z", "E", "P", "T", "G", "M", "k", "h", "da", "d", "c", "m", "u", "n", "p", "f",
    "a", "z", "y", "r", "q", "Ki", "Mi", "Gi", "Ti",
];

/// Units that take a prefix.
const METRIC: &str = "\
    m s g rad K C cd mol sr Hz N Pa J W A V F Ohm S Wb Cel T H lm lx Bq Gy Sv l L ar t bar u eV pc \
    [c] [h] [k] [eps_0] [mu_0] [e] [m_e] [m_p] [G] [g] [ly] gf Ky Gal dyn erg P Bi St Mx G Oe Gb \
    sb Lmb ph Ci R RAD REM cal_[15] cal_[20] cal_m cal_IT cal_th cal tex m[H2O] m[Hg] eq osm g% \
    kat U [iU] [IU] Np B B[SPL] B[V] B[mV] B[uV] B[10.nV] B[W] B[kW] st mho bit By Bd att";

/// Units that take none.
const OTHER: &str = "\
    10* 10^ [pi] % [ppth] [ppm] [ppb] [pptr] gon deg ' '' min h d a_t a_j a_g a wk mo_s mo_j mo_g \
    mo AU atm [lbf_av] [in_i] [ft_i] [yd_i] [mi_i] [fth_i] [nmi_i] [kn_i] [sin_i] [sft_i] [syd_i] \
    [cin_i] [cft_i] [cyd_i] [bf_i] [cr_i] [mil_i] [cml_i] [hd_i] [ft_us] [yd_us] [in_us] [rd_us] \
    [ch_us] [lk_us] [rch_us] [rlk_us] [fth_us] [fur_us] [mi_us] [acr_us] [srd_us] [smi_us] [sct] \
    [twp] [mil_us] [in_br] [ft_br] [rd_br] [ch_br] [lk_br] [fth_br] [pc_br] [yd_br] [mi_br] \
    [nmi_br] [kn_br] [acr_br] [gal_us] [bbl_us] [qt_us] [pt_us] [gil_us] [foz_us] [fdr_us] \
    [min_us] [crd_us] [bu_us] [gal_wi] [pk_us] [dqt_us] [dpt_us] [tbs_us] [tsp_us] [cup_us] \
    [foz_m] [cup_m] [tsp_m] [tbs_m] [gal_br] [pk_br] [bu_br] [qt_br] [pt_br] [gil_br] [foz_br] \
    [fdr_br] [min_br] [gr] [lb_av] [oz_av] [dr_av] [scwt_av] [lcwt_av] [ston_av] [lton_av] \
    [stone_av] [pwt_tr] [oz_tr] [lb_tr] [sc_ap] [dr_ap] [oz_ap] [lb_ap] [oz_m] [lne] [pnt] [pca] \
    [pnt_pr] [pca_pr] [pied] [pouce] [ligne] [didot] [cicero] [degF] [degR] [degRe] [Cal] [Btu_39] \
    [Btu_59] [Btu_60] [Btu_m] [Btu_IT] [Btu_th] [Btu] [HP] [den] [in_i'H2O] [in_i'Hg] [PRU] \
    [wood'U] [diop] [p'diop] %[slope] [mesh_i] [Ch] [drp] [hnsf'U] [MET] [hp'_X] [hp'_C] [hp'_M] \
    [hp'_Q] [hp_X] [hp_C] [hp_M] [hp_Q] [kp_X] [kp_C] [kp_M] [kp_Q] [pH] [S] [HPF] [LPF] [arb'U] \
    [USP'U] [GPL'U] [MPL'U] [APL'U] [beth'U] [anti'Xa'U] [todd'U] [dye'U] [smgy'U] [bdsk'U] [ka'U] \
    [knk'U] [mclg'U] [tb'U] [CCID_50] [TCID_50] [EID_50] [PFU] [FFU] [CFU] [IR] [BAU] [AU] \
    [Amb'a'1'U] [PNU] [Lf] [D'ag'U] [FEU] [ELU] [EU] Ao b [psi] circ sph [car_m] [car_Au] [smoot] \
    [m/s2/Hz^0.5] bit_s [NTU] [FNU]";

/// Whether a text is a unit.
pub(super) fn is_unit(text: &str) -> bool {
    let mut rest = text.strip_prefix('/').unwrap_or(text);
    !rest.is_empty()
        && text.len() <= MAX_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        && is_term(&mut rest, 0)
        && rest.is_empty()
}

/// Components with `.` or `/` between them.
fn is_term(rest: &mut &str, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    loop {
        if !is_component(rest, depth) {
            return false;
        }
        match rest.strip_prefix(['.', '/']) {
            Some(after) => *rest = after,
            None => return true,
        }
    }
}

/// A term in brackets, a unit with or without an annotation, an annotation, or a number.
fn is_component(rest: &mut &str, depth: usize) -> bool {
    if let Some(inner) = rest.strip_prefix('(') {
        *rest = inner.strip_prefix('/').unwrap_or(inner);
        let is_term = is_term(rest, depth + 1);
        return match rest.strip_prefix(')') {
            Some(after) => {
                *rest = after;
                is_term
            }
            None => false,
        };
    }
    let (symbol, after) = rest.split_at(symbol_end(rest));
    *rest = after;
    let mut has_annotation = false;
    if let Some(inner) = rest.strip_prefix('{') {
        let Some((annotation, after)) = inner.split_once('}') else { return false };
        if annotation.contains('{') {
            return false;
        }
        (has_annotation, *rest) = (true, after);
    }
    match symbol {
        "" => has_annotation,
        symbol => is_simple(symbol),
    }
}

/// Where a unit ends; what stands in square brackets belongs to it.
fn symbol_end(text: &str) -> usize {
    let mut is_within = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => is_within = true,
            b']' => is_within = false,
            b'.' | b'/' | b'(' | b')' | b'{' | b'}' if !is_within => return at,
            _ => {}
        }
    }
    text.len()
}

/// A number, or a unit with or without a prefix and an exponent.
fn is_simple(symbol: &str) -> bool {
    let unit = symbol.trim_end_matches(|c: char| c.is_ascii_digit());
    if unit.is_empty() {
        return true;
    }
    let with_exponent = unit.len() < symbol.len();
    let unit = match with_exponent {
        true => unit.strip_suffix(['+', '-']).unwrap_or(unit),
        false => unit,
    };
    is_atom(unit)
}

fn is_atom(unit: &str) -> bool {
    /// The units that take a prefix and those that take none.
    static ATOMS: LazyLock<[HashSet<&str>; 2]> =
        LazyLock::new(|| [METRIC, OTHER].map(|table| table.split(' ').collect()));
    let [metric, other] = &*ATOMS;
    let is_prefixed =
        |prefix: &str| unit.strip_prefix(prefix).is_some_and(|rest| metric.contains(rest));
    metric.contains(unit)
        || other.contains(unit)
        || PREFIXES.iter().any(|prefix| is_prefixed(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_those_of_ucum() {
        for unit in "m mm mm[Hg] kg/m2 10*9/L 10*-6 /min {score} % mmol/L ug/dL [degF] Cel kg.m/s2 \
                     1 mL/min/{1.73_m2} [iU]/L m[IU]/mL U/L [pH] (kg.m)/s2 {beats}/min g{creat} a \
                     mo wk [lb_av] [in_i] kPa cm[H2O] meq/L 100 m-1 [in_i'Hg] [m/s2/Hz^0.5] MiBy"
            .split_whitespace()
        {
            assert!(is_unit(unit), "{unit}");
        }
        for unit in [
            "",
            "mmHg",
            "mcg",
            "IU/L",
            "beats/min",
            "years",
            "kilogram",
            "mg/",
            "//min",
            "mg//L",
            "{a",
            "a}",
            "{a{b}}",
            "(m",
            "m)",
            "()",
            "m m",
            "é",
            "kg m2",
            "mg dL",
            "cc",
            "kh",
            "[lb]",
            "m^2",
            "-1",
            "{a}{b}",
        ] {
            assert!(!is_unit(unit), "{unit}");
        }
        assert!(!is_unit(&"(".repeat(400)) && !is_unit(&"m.".repeat(400)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,20}", unit in "[mgL/.(){}\\[\\]0-9*+-]{0,16}") {
            is_unit(&text);
            is_unit(&unit);
        }
    }
}
