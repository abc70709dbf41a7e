"""How cycles and fits ended, beyond the codes of :mod:`.exponential`."""

#: How a cycle ended.
NO_WINDOW, CUT, ABSENT, NO_PERIOD, WAITING, NO_RESPONSE = range(14, 20)
#: How a fit ended that is no fit, or not quite one.
LOW_R2, NOT_EXPONENTIAL, CUT_OFF, OVERFLOW_LEFT_OUT, OUTLIER_LEFT_OUT, LOW_SWING, WRONG_CLOCK = (
    range(20, 27)
)
