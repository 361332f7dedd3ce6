package adminui

// For tests of what only numbers tell.
var (
	Percentile = percentile
	NiceAbove  = niceAbove
	Share      = share
	Roughly    = roughly
	Duration   = duration
	ColorsOf   = colorsOf
	Printable  = printable
)
