//! The closed vocabulary of malformed requests: name, status, and one sentence that may leave.

use super::Malformed;

/// Declares every reason once: a constant to refuse with, and a row of [`Malformed::ALL`].
macro_rules! reasons {
    ($($name:ident = $status:literal $reason:literal $sentence:literal;)*) => {
        impl Malformed {
            $(
                #[doc = $sentence]
                pub const $name: Self = Self { reason: $reason, status: $status };
            )*

            /// Every reason with its sentence, in order of name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $sentence),)*];
        }
    };
}

reasons! {
    BODY_FRAMING = 400 "body.framing" "The body is not framed as its head says.";
    BODY_TOO_SLOW = 408 "body.too_slow" "The body did not come in time.";
    EXPECT_UNSUPPORTED = 417 "expect.unsupported" "`Expect` may only be `100-continue`.";
    FORM_BAD_ESCAPE = 400 "form.bad_escape" "The form contains `%` without two hexadecimal digits.";
    FORM_BAD_UTF8 = 400 "form.bad_utf8" "The escapes in the form do not decode to UTF-8.";
    FORM_CONTENT_TYPE = 400 "form.content_type" "A form has the type `application/x-www-form-urlencoded`.";
    FORM_MISSING_FIELD = 400 "form.missing_field" "A field of the form is missing.";
    FORM_REPEATED_FIELD = 400 "form.repeated_field" "A field of the form occurs more than once.";
    FORM_TOO_MANY_FIELDS = 400 "form.too_many_fields" "The form has too many fields.";
    FRAMING_BOTH_LENGTHS = 400 "framing.both_lengths" "`Content-Length` and `Transfer-Encoding` contradict each other.";
    FRAMING_CONTENT_LENGTH = 400 "framing.content_length" "`Content-Length` is not one plain decimal number.";
    FRAMING_CONTENT_LENGTH_REPEATED = 400 "framing.content_length_repeated" "`Content-Length` occurs more than once.";
    FRAMING_LINES = 400 "framing.lines" "A header line is folded or does not end in CR LF.";
    FRAMING_TRANSFER_ENCODING = 501 "framing.transfer_encoding" "`Transfer-Encoding` may only be `chunked`, once.";
    FRAMING_UNPARSABLE = 400 "framing.unparsable" "These bytes are no request of HTTP/1.1.";
    FRAMING_UPGRADE_EARLY = 400 "framing.upgrade_early" "Nothing may follow a request to change the protocol before its answer.";
    FRAMING_UPGRADE_WITH_BODY = 400 "framing.upgrade_with_body" "A request to change the protocol cannot have a body.";
    FRAMING_VERSION = 505 "framing.version" "Only HTTP/1.1 is spoken here.";
    HEADERS_CONTROL = 400 "headers.control" "A header value contains a control character.";
    HEADERS_NAME_TOO_LONG = 431 "headers.name_too_long" "A header name is too long.";
    HEADERS_NOT_ASCII = 400 "headers.not_ascii" "A header that is read here contains bytes that are not ASCII.";
    HEADERS_REPEATED = 400 "headers.repeated" "A header that can have one value occurs more than once.";
    HEADERS_TOO_LARGE = 431 "headers.too_large" "The headers together are too large.";
    HEADERS_TOO_MANY = 431 "headers.too_many" "There are too many headers.";
    HEADERS_VALUE_TOO_LONG = 431 "headers.value_too_long" "A header value is too long.";
    HOST_MALFORMED = 400 "host.malformed" "`Host` is not a name or an address with an optional port.";
    HOST_MISSING = 400 "host.missing" "`Host` is missing.";
    HOST_REPEATED = 400 "host.repeated" "`Host` occurs more than once.";
    HOST_UNKNOWN = 421 "host.unknown" "This host is not served here.";
    METHOD_MALFORMED = 400 "method.malformed" "A method consists of upper-case letters.";
    METHOD_OVERRIDE = 400 "method.override" "The method cannot be overridden by a header.";
    METHOD_REFUSED = 501 "method.refused" "This method is never served here.";
    PATH_BACKSLASH = 400 "path.backslash" "The path contains a backslash.";
    PATH_BAD_ESCAPE = 400 "path.bad_escape" "The path contains `%` without two hexadecimal digits.";
    PATH_BAD_UTF8 = 400 "path.bad_utf8" "The escapes in the path do not decode to UTF-8.";
    PATH_CONTROL = 400 "path.control" "The path contains a control character.";
    PATH_DOT_SEGMENT = 400 "path.dot_segment" "The path contains the segment `.` or `..`.";
    PATH_DOUBLE_ENCODING = 400 "path.double_encoding" "The path contains an escape of an escape.";
    PATH_EMPTY_SEGMENT = 400 "path.empty_segment" "The path contains an empty segment.";
    PATH_ENCODED_SLASH = 400 "path.encoded_slash" "The path contains an escaped slash or backslash.";
    PATH_FRAGMENT = 400 "path.fragment" "The path contains a fragment.";
    PATH_NOT_ASCII = 400 "path.not_ascii" "The path contains bytes that are not ASCII and not escaped.";
    PATH_NOT_ORIGIN_FORM = 400 "path.not_origin_form" "The request target does not begin with `/`.";
    PATH_NUL = 400 "path.nul" "The path contains a NUL.";
    PATH_QUESTION_MARK = 400 "path.question_mark" "The path contains a question mark.";
    PATH_SEMICOLON = 400 "path.semicolon" "The path contains a semicolon.";
    PATH_SPACE = 400 "path.space" "The path contains a space that is not escaped.";
    PATH_TOO_LONG = 414 "path.too_long" "The path is too long.";
    PATH_TOO_MANY_SEGMENTS = 414 "path.too_many_segments" "The path has too many segments.";
    QUERY_BAD_ESCAPE = 400 "query.bad_escape" "The query contains `%` without two hexadecimal digits.";
    QUERY_BAD_UTF8 = 400 "query.bad_utf8" "The escapes in the query do not decode to UTF-8.";
    QUERY_BAD_VALUE = 400 "query.bad_value" "A query parameter has a value that this route does not take.";
    QUERY_CONTROL = 400 "query.control" "The query contains a control character where none can be.";
    QUERY_FRAGMENT = 400 "query.fragment" "The query contains a fragment.";
    QUERY_IDENTITY = 400 "query.identity" "A query parameter says who someone is; this route does not take that from a client.";
    QUERY_METHOD_OVERRIDE = 400 "query.method_override" "The method cannot be overridden by a query parameter.";
    QUERY_NAME_TOO_LONG = 414 "query.name_too_long" "The name of a query parameter is too long.";
    QUERY_NOT_ASCII = 400 "query.not_ascii" "The query contains bytes that are not ASCII and not escaped.";
    QUERY_NUL = 400 "query.nul" "The query contains a NUL.";
    QUERY_REPEATED = 400 "query.repeated" "A query parameter occurs more than once.";
    QUERY_SPACE = 400 "query.space" "The query contains a space that is not escaped.";
    QUERY_TOO_LONG = 414 "query.too_long" "The query is too long.";
    QUERY_TOO_MANY = 414 "query.too_many" "The query has too many parameters.";
    QUERY_UNNAMED = 403 "query.unnamed" "A query parameter has a value that was not given to this session.";
    SERVICE_WORKER_REFUSED = 400 "service_worker.refused" "Service workers are not served from this path.";
    UPGRADE_REFUSED = 400 "upgrade.refused" "The protocol cannot be changed on this path.";
    UPGRADE_REQUIRED = 426 "upgrade.required" "This path speaks WebSocket, version 13.";
}

impl Malformed {
    /// The sentence that clients are told. A reason from elsewhere has a general one.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(known, _)| known.reason == self.reason)
            .map_or("The request is malformed.", |(_, sentence)| sentence)
    }

    /// Whether the two sides may disagree about where this request ends, or whom it was for, so that the connection has to
    /// end.
    #[must_use]
    pub fn breaks_framing(&self) -> bool {
        self.reason.starts_with("framing.")
            || self.reason.starts_with("body.")
            || *self == Self::HOST_REPEATED
    }

    /// Whether a route is the only thing that refuses with this before a permit. What is ambiguous in itself is
    /// refused on a path that no route names as well, so telling it tells nothing of the route.
    pub(super) fn tells_of_a_route(&self) -> bool {
        *self == Self::QUERY_IDENTITY || *self == Self::QUERY_BAD_VALUE
    }
}
