// Package bench measures: the evaluator that scores schedules on images for the search, image quality, the latency of components and
// runs, and what is written about them.
package bench
