// What the pages use of the vendored file, for the type check alone: it is minified and says no types itself.
export declare function html(strings: TemplateStringsArray, ...values: any[]): any;
export declare function render(tree: any, parent: Element | null): void;
export declare function useState(initial?: any): [any, (value: any) => void];
export declare function useEffect(effect: () => any, inputs?: readonly any[]): void;
export declare function useLayoutEffect(effect: () => any, inputs?: readonly any[]): void;
export declare function useRef(initial?: any): { current: any };
export declare function useMemo<T>(make: () => T, inputs: readonly any[]): T;
export declare function useCallback<T>(callback: T, inputs: readonly any[]): T;
export declare function useErrorBoundary(): [any, () => void];
