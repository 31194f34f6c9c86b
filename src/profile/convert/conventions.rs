//! Names of OpenTelemetry's semantic conventions.

/// The format of an original payload that is a pprof.
pub(super) const PAYLOAD_PPROF: &str = "pprof";

// Of profiles.
pub(super) const COMMENT: &str = "pprof.profile.comment";
pub(super) const DROP_FRAMES: &str = "pprof.profile.drop_frames";
pub(super) const KEEP_FRAMES: &str = "pprof.profile.keep_frames";
pub(super) const DOC_URL: &str = "pprof.profile.doc_url";

// Of scopes.
pub(super) const DEFAULT_SAMPLE_TYPE: &str = "pprof.scope.default_sample_type";
/// For each profile of the scope, the place of its type in the pprof.
pub(super) const SAMPLE_TYPE_ORDER: &str = "pprof.scope.sample_type_order";

// Of mappings.
pub(super) const HAS_FUNCTIONS: &str = "pprof.mapping.has_functions";
pub(super) const HAS_FILENAMES: &str = "pprof.mapping.has_filenames";
pub(super) const HAS_LINE_NUMBERS: &str = "pprof.mapping.has_line_numbers";
pub(super) const HAS_INLINE_FRAMES: &str = "pprof.mapping.has_inline_frames";
pub(super) const BUILD_ID_GNU: &str = "process.executable.build_id.gnu";
pub(super) const BUILD_ID_GO: &str = "process.executable.build_id.go";
pub(super) const BUILD_ID_HTLHASH: &str = "process.executable.build_id.htlhash";

// Of locations.
pub(super) const IS_FOLDED: &str = "pprof.location.is_folded";
pub(super) const FRAME_TYPE: &str = "profile.frame.type";

/// The attribute that a build id of this shape is. The linker of Go makes ids of
/// parts with slashes in between; all others are taken for GNU's, as Parca and
/// the Collector do.
pub(super) fn build_id_attribute(build_id: &str) -> &'static str {
    match build_id.contains('/') {
        true => BUILD_ID_GO,
        false => BUILD_ID_GNU,
    }
}
