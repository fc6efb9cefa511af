//! The closed list of reasons. Every state a delivery can be in, and every attempt that ended, has
//! one of these; each is a number that is stored, a code that the API speaks, a sentence for a
//! person and the next thing to do.
//!
//! Absent here: a cause "other". What cannot be named is [`Cause::Unresolved`], and that is a name.

macro_rules! causes {
    ($($number:literal $name:ident $code:literal $text:literal $advice:literal;)*) => {
        /// Why a delivery is where it is. Numbers are stored: they are never changed or reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Cause {
            $(#[doc = $text] $name = $number,)*
        }

        impl Cause {
            /// All causes, in the order of their numbers.
            pub const ALL: &'static [Cause] = &[$(Cause::$name),*];

            /// The stored number.
            #[must_use]
            pub fn number(self) -> u8 {
                self as u8
            }

            /// The cause with this stored number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Cause> {
                match number {
                    $($number => Some(Cause::$name),)*
                    _ => None,
                }
            }

            /// The stable code that the API, the log and the broker speak.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Cause::$name => $code,)*
                }
            }

            /// The cause with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Cause> {
                match code {
                    $($code => Some(Cause::$name),)*
                    _ => None,
                }
            }

            /// What happened, in one sentence for a person.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Cause::$name => $text,)*
                }
            }

            /// Who has to do what about it, in one sentence.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self {
                    $(Cause::$name => $advice,)*
                }
            }
        }
    };
}

causes! {
    // Waiting and under way.
    1 Waiting "SCHEDULED"
        "It is waiting for its turn."
        "Nothing: it goes out when it is due.";
    2 Sending "IN_FLIGHT"
        "A request is under way and its answer has not come yet."
        "Nothing: the answer or the time limit settles it.";
    3 Deferred "DEFERRED"
        "It was put back before a byte was written, and goes out shortly."
        "Nothing: no attempt was spent.";

    // Accepted.
    10 Accepted "PENDING_DELIVERY"
        "The receiving side took it over; whether a person saw it is not known."
        "Nothing, unless a receipt was expected.";
    11 Confirmed "CONFIRMED"
        "The device reported that it was displayed, clicked or dismissed."
        "Nothing.";

    12 AcceptedDropped "ACCEPTED_DROPPED"
        "The push service took it and says that it will not show it: dropped or throttled there."
        "The operator: see the kept answer; the device's own settings may be the reason.";

    // Answered with a refusal.
    20 BadRequest "BAD_REQUEST"
        "The receiver says the request is malformed (400)."
        "The application: correct what it submits; then replay.";
    21 AuthFailure "AUTH_FAILURE"
        "The receiver refused our credentials (401 or 403)."
        "The operator: check the endpoint's secret or certificate; then replay.";
    22 NotFound "NOT_FOUND"
        "The receiver does not know this address (404)."
        "The endpoint's owner: correct the URL; then replay.";
    23 Gone "GONE"
        "The receiver says this address is gone for good (410); the endpoint was retired."
        "The endpoint's owner: register a new address.";
    24 PayloadTooLarge "PAYLOAD_TOO_LARGE"
        "The receiver says the payload is too large (413)."
        "The application: send less, or a link to it.";
    25 ClientError "CLIENT_ERROR"
        "The receiver refused the request with another 4xx answer."
        "The endpoint's owner: read the kept answer; then replay.";
    26 Redirected "REDIRECTED"
        "The receiver answered with a redirect; redirects are never followed."
        "The endpoint's owner: register the final URL.";
    27 Unresolved "UNRESOLVED"
        "The receiver answered with a status outside of what HTTP defines."
        "The endpoint's owner: read the kept answer.";

    28 KeyMismatch "KEY_MISMATCH"
        "The address belongs to another key, app or project of ours than the one that was used."
        "The application: let the device subscribe again; until then nothing is sent to it.";
    29 BadToken "BAD_TOKEN"
        "The provider does not know this device token."
        "The application: register the device's present token. Of an Apple device it may be one of \
         the other environment: make a route to that as well, and it is tried there.";

    // Answered with a plea to wait.
    30 RateLimited "RATE_LIMITED"
        "The receiver asked us to slow down (429)."
        "Nothing: it is tried again at the time the receiver named.";
    31 RetryAfterCapped "RETRY_AFTER_CAPPED"
        "The receiver named a waiting time beyond the cap; one probe goes at the cap, the others \
         wait."
        "The operator: this is recorded as an incident of that receiver.";
    32 RequestTimeout "REQUEST_TIMEOUT"
        "The receiver says it waited too long for our request (408); it may have acted on it."
        "Nothing: it is tried again where the guarantee allows.";
    33 TooEarly "TOO_EARLY"
        "The receiver asked for the request to be repeated later (425)."
        "Nothing: it is tried again.";

    34 DeviceThrottled "DEVICE_THROTTLED"
        "The provider says that this device is sent too much; it is tried again later."
        "The application: send less to one device.";

    // Failed on the far side, or on the way.
    40 ServiceDegraded "SERVICE_DEGRADED"
        "The receiver failed while handling it (5xx); it may have acted on it."
        "The endpoint's owner: see the kept answer.";
    41 ConnectRefused "CONNECT_REFUSED"
        "No connection could be made: refused."
        "The endpoint's owner: is the service up and the port right?";
    42 ConnectTimeout "CONNECT_TIMEOUT"
        "No connection could be made within the time limit."
        "The endpoint's owner: is a firewall dropping our packets?";
    43 DnsFailure "DNS_FAILURE"
        "The host name could not be resolved."
        "The endpoint's owner: check the name.";
    44 TlsFailure "TLS_FAILURE"
        "The TLS handshake failed before a byte of the request was written."
        "The endpoint's owner: check certificate, name and expiry.";
    45 ConnectionLost "CONNECTION_LOST"
        "The connection broke after the request had begun; whether it was processed is unknown."
        "Nothing: an attempt that may have acted is recorded as such.";
    46 ResponseTimeout "RESPONSE_TIMEOUT"
        "No answer came within the time limit; whether it was processed is unknown."
        "The endpoint's owner: answer first, work later.";
    47 ResponseInvalid "RESPONSE_INVALID"
        "The answer was not HTTP, or went over the limits for its head; whether it was processed \
         is unknown."
        "The endpoint's owner: check what answers on that port.";
    48 ForbiddenAddress "FORBIDDEN_ADDRESS"
        "The host resolves to an address that deliveries may not reach."
        "The operator: allow that network, if it is meant.";
    49 ConnectFailed "CONNECT_FAILED"
        "No connection could be made: the network reported an error."
        "The operator: check routes and the network's state.";
    50 Crashed "CRASHED"
        "The engine stopped while the answer was outstanding; whether it was processed is unknown."
        "Nothing: it is repeated where the guarantee allows.";
    51 Unprocessed "UNPROCESSED"
        "The receiver's connection said that this request was not processed."
        "Nothing: it is sent again and no attempt was spent.";
    52 PayloadUnreadable "PAYLOAD_UNREADABLE"
        "The stored payload could not be read back."
        "The operator: run `postrider doctor` on the data directory.";

    53 ContentInvalid "CONTENT_INVALID"
        "The payload cannot be written in the form that this channel demands."
        "The application: see the kept detail, and correct what it submits.";
    54 ContentTooLarge "CONTENT_TOO_LARGE"
        "The payload is larger than this channel can carry; nothing was sent."
        "The application: send less, or a link to it.";
    55 RouteUnusable "ROUTE_UNUSABLE"
        "The route has no credentials that could be used for this endpoint."
        "The operator: check the route's keys.";

    // Settled without another answer.
    60 AttemptsSpent "ATTEMPTS_SPENT"
        "Every attempt that the policy allows was made."
        "The endpoint's owner: mend the receiver; then replay.";
    61 Expired "EXPIRED"
        "Its time to live ran out before it could be sent."
        "Nothing: it was not worth sending any more.";
    62 ExpiredBreaker "EXPIRED_BREAKER_OPEN"
        "Its time to live ran out while the endpoint's circuit breaker was open."
        "The endpoint's owner: the receiver failed for too long.";
    63 ExpiredLimiter "EXPIRED_LIMITED"
        "Its time to live ran out while it waited for the endpoint's rate limit."
        "The operator: raise the limit, or send less.";
    64 ExpiredPaused "EXPIRED_PAUSED"
        "Its time to live ran out while the endpoint was paused."
        "The operator: see who paused it and why.";
    65 ExpiredOrder "EXPIRED_ORDER"
        "Its time to live ran out while an earlier one with the same ordering key was unsettled."
        "The endpoint's owner: the one in front was held up.";
    66 ExpiredRetry "EXPIRED_RETRY"
        "The next attempt would have come after its time to live."
        "The endpoint's owner: the receiver failed until it lapsed.";
    70 ExpiredBlocked "EXPIRED_CREDENTIAL"
        "Its time to live ran out while the provider refused our credentials."
        "The operator: renew the route's keys; then replay.";
    67 Cancelled "CANCELLED"
        "The application withdrew it."
        "Nothing.";
    68 OrderSkipped "ORDER_SKIPPED"
        "Its first try was not accepted, and the policy lets later ones with the same ordering \
         key pass rather than wait."
        "The endpoint's owner: replay it out of order if it still matters.";
    69 UnknownOutcome "UNKNOWN_OUTCOME"
        "The one permitted request was begun and no answer is known; it is not repeated."
        "A person: ask the receiver whether it arrived.";

    // Never begun.
    80 EndpointPaused "SUPPRESSED_PAUSED"
        "The endpoint was paused by choice and its policy does not hold deliveries."
        "The operator: resume it.";
    81 EndpointRetired "SUPPRESSED_RETIRED"
        "The endpoint was retired before this was sent."
        "The endpoint's owner: register a new address.";
    82 NoEndpoint "SUPPRESSED_NO_ENDPOINT"
        "The recipient has no endpoint, and nothing subscribes to this event type."
        "The application: register an endpoint.";
    83 EndpointDeleted "SUPPRESSED_DELETED"
        "The endpoint was deleted before this was sent."
        "Nothing.";
    84 Superseded "SUPPRESSED_SUPERSEDED"
        "A newer notification with the same collapse key took its place before it was sent."
        "Nothing.";
}

impl Cause {
    /// It says that an address leads nowhere any more.
    #[must_use]
    pub fn is_of_a_dead_address(self) -> bool {
        matches!(
            self,
            Cause::Gone | Cause::NotFound | Cause::KeyMismatch | Cause::BadToken
        )
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Cause;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_codes_are_unique_and_come_back() {
        let codes: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        for &cause in Cause::ALL {
            assert_eq!(Cause::from_number(cause.number()), Some(cause));
            assert_eq!(Cause::from_code(cause.code()), Some(cause));
        }
        assert_eq!(Cause::from_number(0), None);
    }
}
