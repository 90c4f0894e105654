"""Names of features and walks of prices, drawn."""

from hypothesis import strategies as st

STEMS = {
    "return": 2,
    "momentum": 2,
    "volatility": 3,
    "zscore": 2,
    "breakout_up": 1,
    "breakout_down": 1,
    "mean_abs_return": 2,
}
windowed_names = st.one_of(
    *(st.integers(least, 25).map(lambda n, stem=stem: f"{stem}_{n}") for stem, least in STEMS.items())
)
names = st.one_of(st.sampled_from(["price", "history_length"]), windowed_names)
# Relative steps of a walk: nothing, a tick of a cent or of a billionth, an ordinary move, a jump.
steps = st.one_of(
    st.just(0.0),
    st.sampled_from([1e-4, -1e-4, 1e-9, -1e-9]),
    st.floats(-0.05, 0.05),
    st.sampled_from([1e6, 1e6**-1 - 1]),
)


@st.composite
def walks(draw, least=0):
    """Draw prices: stretches of a step repeated, from a start between a millionth and a million."""
    price = draw(st.floats(1e-6, 1e6))
    prices = []
    for step, count in draw(st.lists(st.tuples(steps, st.integers(1, 30)), max_size=8)):
        for index in range(count):
            # A jump that is repeated would leave what a float can hold.
            price *= 1 + (step if index == 0 or abs(step) < 0.1 else 0.0)
            price = min(max(price, 1e-12), 1e18)
            prices.append(price)
    return prices + [price] * max(0, least - len(prices))
