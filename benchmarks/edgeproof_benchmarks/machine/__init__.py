"""The machine that figures are measured on: clocks, load, throttling, power, before and after."""
