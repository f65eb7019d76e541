//! ZIM's return codes by class, written independently of the program's own table.

/// Every documented return code that concerns a single row or is temporary, with its class.
pub const ROW_CODES: &[(i64, &str)] = &[
    (0, "ok"),
    (660_800_002, "outside"),
    (1, "transient"),
    (105_001, "transient"),
    (100_000_012, "transient"),
    (100_000_015, "transient"),
    (660_000_001, "transient"),
    (660_000_003, "transient"),
    (660_600_015, "transient"),
    (660_700_013, "transient"),
    (660_700_016, "transient"),
    (660_700_017, "transient"),
    (660_800_053, "transient"),
    (2, "rejected"),
    (50_014, "rejected"),
    (51_102, "rejected"),
    (660_000_002, "rejected"),
    (660_000_012, "rejected"),
    (660_200_001, "rejected"),
    (660_500_002, "rejected"),
    (660_600_001, "rejected"),
    (660_600_009, "rejected"),
    (660_600_024, "rejected"),
    (660_700_008, "rejected"),
    (660_700_012, "rejected"),
    (660_700_015, "rejected"),
    (660_800_001, "rejected"),
    (424_242, "unknown"),
    (-1, "unknown"),
    (660_999_999, "unknown"),
    (9_007_199_254_740_993, "unknown"),
];

/// The codes after which no row can succeed.
pub const FATAL_CODES: &[i64] = &[
    3,
    100_000_000,
    100_000_001,
    100_000_002,
    100_000_003,
    100_000_006,
    100_000_007,
    100_000_008,
    100_000_009,
    100_000_013,
    100_000_014,
    100_000_016,
    100_000_017,
    660_000_028,
];

pub const LIMITED_CODES: &[i64] = &[7, 660_300_005, 660_300_006];
pub const SIGNATURE_CODES: &[i64] = &[100_000_004, 100_000_005];
pub const APP_CODES: &[i64] = &[100_000_010, 100_000_011];
