"""The functions that a question may call.

A list of what is allowed: the database has functions that read settings, sleep, write to its own log or hold a thread
for minutes in one call that nothing interrupts (edit distances), and a later version brings more of them.
"""

from __future__ import annotations

_TEXT = """
    array_extract ascii base64 bit_length char_length character_length chr concat concat_ws contains decode encode
    ends_with format_bytes formatreadabledecimalsize formatreadablesize from_base64 from_hex hash hex ilike_escape
    instr lcase left length like_escape lower lpad ltrim md5 nfc_normalize not_ilike_escape not_like_escape
    octet_length ord parse_dirname parse_filename position prefix regexp_extract regexp_extract_all
    regexp_full_match regexp_matches regexp_replace regexp_split_to_array replace reverse right rpad rtrim sha256
    split_part starts_with str_split string_split string_split_regex strip_accents strlen strpos substr substring
    suffix to_base64 to_hex translate trim ucase unhex unicode upper url_decode url_encode bar repeat
"""
_NUMBERS = """
    abs acos asin atan atan2 cbrt ceil ceiling cos cot degrees divide even exp fdiv floor fmod gcd greatest isfinite
    isinf isnan lcm least ln log log10 log2 mod pi pow power radians random round round_even sign sin sqrt tan trunc
"""
_CHOICES = "if nullif typeof constant_or_null"
_TIMES = """
    age century current_date current_localtimestamp date_add date_diff date_part date_sub date_trunc
    datediff datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear decade epoch epoch_ms epoch_ns
    epoch_us get_current_time get_current_timestamp hour isodow isoyear last_day make_date make_time make_timestamp
    make_timestamp_ms microsecond millisecond minute month monthname now quarter second strftime strptime time_bucket
    timezone to_days to_hours to_microseconds to_milliseconds to_minutes to_months to_seconds to_timestamp to_weeks
    to_years today transaction_timestamp try_strptime week weekday weekofyear year yearweek
"""
_NESTED = """
    array_append array_contains array_length array_position array_slice array_to_string cardinality element_at flatten
    len list_append list_avg list_concat list_contains list_count list_distinct list_element list_extract list_has
    list_max list_min list_position list_prepend list_reverse list_slice list_sort list_sum list_unique list_value map
    map_contains map_entries map_extract map_extract_value map_from_entries map_keys map_values row struct_extract
    struct_pack unnest range generate_series
"""
_JSON = """
    json_array_length json_exists json_extract json_extract_path json_extract_path_text json_extract_string json_keys
    json_type json_valid
"""
_AGGREGATES = """
    any_value approx_count_distinct approx_quantile approx_top_k arg_max arg_max_null arg_min arg_min_null array_agg
    avg bit_and bit_or bit_xor bool_and bool_or corr count count_if count_star countif covar_pop covar_samp entropy
    favg first fsum geomean geometric_mean group_concat histogram kurtosis last list listagg mad max max_by mean median
    min min_by mode product quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2
    regr_slope skewness stddev stddev_pop stddev_samp string_agg sum sumkahan var_pop var_samp variance
"""
_WINDOWS = "cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank row_number"
_OPERATORS = "+ - * / // % ** ^ & | ~ << >> || ~~ !~~ ~~* !~~* ~~~ ^@ @> <@ && ->> @"
FUNCTIONS = frozenset(
    " ".join((_TEXT, _NUMBERS, _CHOICES, _TIMES, _NESTED, _JSON, _AGGREGATES, _WINDOWS, _OPERATORS)).split()
)
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})
"""In FROM, where they give row by row; as a mere function, `range` makes a list of any size at once."""

JOINING = frozenset({"||", "concat", "concat_ws", "list_concat", "array_to_string"})
"""What it gives is as long as all that it is given."""
GATHERING = frozenset({"array_agg", "group_concat", "list", "listagg", "string_agg"})
"""What it gives may be as long as a whole table."""
COUNTED = {"lpad": 1, "rpad": 1, "bar": 3, "repeat": 1, "range": 0, "generate_series": 0}
"""Function -> the argument that says how long it gets."""
MOST_COUNT = 1000
"""Of such an argument."""
